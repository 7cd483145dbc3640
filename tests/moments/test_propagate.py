"""One walk through a graph: inputs as given or measured, gradients by transposition, stops where autograd stops."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.errors import InputError
from stepzero.laws import Dirac
from stepzero.moments import Moments, Signal, _signal, propagate
from stepzero.network import capture

ZERO, ONE = torch.tensor(0.0).double(), torch.tensor(1.0).double()


def laws(graph, scale=2.0):
    """Var[w] = scale / fan_in for weights, zero biases, unit norm scales."""
    found = {}
    for name, v in graph.parameters.items():
        shape = graph.values[v].shape
        if len(shape) > 1:
            found[name] = (ZERO, ONE * scale / math.prod(shape[1:]))
        else:
            found[name] = (ONE, ONE) if name.endswith("weight") else (ZERO, ZERO)
    return found


def draw(module, laws, generator):
    with torch.no_grad():
        for name, p in module.named_parameters():
            mean, second = laws[name]
            p.normal_(float(mean), math.sqrt(max(float(second - mean**2), 0.0)), generator=generator)


def block(a, b):
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU())


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norms = nn.Conv2d(3, 64, 3, padding=1), nn.ModuleList(nn.BatchNorm2d(64) for _ in range(6))
        self.convs = nn.ModuleList(nn.Conv2d(64, 64, 3, padding=1, bias=False) for _ in range(6))
        self.head = nn.Linear(64, 32)

    def forward(self, x):
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + conv(F.relu(norm(x)))
        return self.head(F.relu(x).mean((2, 3)))


NETS = {
    "plain": (lambda: nn.Sequential(block(3, 96), block(96, 96), block(96, 96), nn.Conv2d(96, 64, 3, padding=1)), 8),
    "pooled": (lambda: nn.Sequential(block(3, 96), nn.MaxPool2d(2), block(96, 96), nn.MaxPool2d(2), block(96, 96),
                                     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 32)), 12),
    "tanh": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(),
                                   nn.Linear(128, 64)), 8),
    "generator": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 64, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(64, 64, 4, 2, 1),
                                        nn.GELU(), nn.Conv2d(64, 32, 3, padding=1)), 8),
    "residual": (Residual, 8),
}  # fmt: skip
FINITE = 0.06  # what widths of 64 to 96 and the rules' approximations may shift a mean; draws scatter on top


@pytest.mark.parametrize("name", NETS)
def test_whole_nets_forward_and_backward(name):
    """Mean over draws within 4 sigma of its own scatter plus 6 % forward, 12 % backward."""
    torch.set_num_threads(1)
    build, size = NETS[name]
    module = build().train()
    graph = capture(module, (8, 3, size, size) if name != "tanh" else (8, 3, 8, 8))
    given = laws(graph)
    flow = propagate(graph, {}, given, on_unknown="error")
    gradients, generator = flow.gradients(), torch.Generator().manual_seed(7)
    places = {graph.nodes[n].module: n for n in flow.taps}
    measured = {n: [] for n in flow.taps}
    kept = {}
    for path, child in module.named_modules():
        if path in places:
            child.register_forward_hook(lambda m, i, o, n=places[path]: kept.__setitem__(n, o))
    for _ in range(24):
        draw(module, given, generator)
        kept.clear()
        shape = (8, 3, 8, 8) if name == "tanh" else (8, 3, size, size)
        y = module(torch.randn(shape, generator=generator))
        grads = torch.autograd.grad(y, list(kept.values()), torch.randn(y.shape, generator=generator))
        for (n, t), g in zip(kept.items(), grads, strict=True):
            measured[n].append((t.detach().double().square().mean(), g.double().square().mean()))
    for n, rows in measured.items():
        samples = torch.tensor(rows)
        expected = torch.tensor([flow.second(graph.nodes[n].outputs[0]), gradients[n]])
        error = samples.std(0) / len(rows) ** 0.5
        allowed = 4 * error + torch.tensor([FINITE, 2 * FINITE]) * expected
        assert bool(((samples.mean(0) - expected).abs() <= allowed).all()), (
            graph.nodes[n].module,
            samples.mean(0),
            expected,
        )


def test_a_plain_stack_without_borders_keeps_its_second_moment():
    stack = nn.Sequential(
        *(m for _ in range(5) for m in (nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular", bias=False), nn.ReLU()))
    )
    graph = capture(stack, (2, 8, 6, 6))
    flow = propagate(graph, {}, laws(graph), on_unknown="error")
    seconds = [flow.second(node.outputs[0]) for node in graph.nodes if node.op == "conv2d"]
    assert seconds == pytest.approx([2.0] * 5, rel=1e-9)  # He et al. 2015: the first layer has no ReLU before it


def test_zero_padding_loses_what_the_exact_infinite_width_kernel_loses():
    stack = nn.Sequential(*(m for _ in range(30) for m in (nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.ReLU())))
    graph = capture(stack, (1, 4, 8, 8))
    flow = propagate(graph, {}, laws(graph), on_unknown="error")
    seconds = [flow.second(node.outputs[0]) / 2 for node in graph.nodes if node.op == "conv2d"]
    assert seconds[-1] == pytest.approx(0.068, rel=0.01)  # 7 % of the signal is left
    assert seconds[-1] / seconds[-2] == pytest.approx(((1 + 2 * math.cos(math.pi / 9)) / 3) ** 2, rel=1e-3)


def test_inputs_with_numbers_are_measured():
    graph = capture(nn.Conv2d(3, 8, 3, bias=False), (4, 3, 8, 8))
    x = torch.rand(4, 3, 8, 8) + 1.0
    flow = propagate(graph, {"input": x}, laws(graph, 1.0))
    assert flow.second(graph.outputs[0]) == pytest.approx(float(x.double().square().mean()), rel=1e-6)
    constant = propagate(graph, {"input": torch.full((4, 3, 8, 8), 2.0)}, laws(graph, 1.0)).signals[
        graph.inputs["input"]
    ]
    assert [float(t.mean()) for t in constant.moments] == pytest.approx([2.0, 4.0, 4.0, 4.0, 4.0, 4.0])


def test_inputs_may_come_as_moments():
    graph = capture(nn.Linear(4, 8, bias=False), (4, 4))
    q = torch.tensor([[3.0]]).double()
    flow = propagate(graph, {"input": Moments(0 * q, q, q, q, q, q)}, laws(graph, 1.0))
    assert flow.second(graph.outputs[0]) == pytest.approx(3.0)


def test_inputs_that_are_not_finite_are_refused():
    graph = capture(nn.Linear(4, 8), (4, 4))
    with pytest.raises(InputError, match="not finite"):
        propagate(graph, {"input": torch.full((4, 4), float("nan"))}, laws(graph))


def test_no_gradient_passes_a_detached_value():
    class Stop(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)

        def forward(self, x):
            return self.b(self.a(x).detach())

    graph = capture(Stop(), (4, 8))
    gradients = propagate(graph, {}, laws(graph)).gradients()
    by_module = {graph.nodes[n].module: g for n, g in gradients.items()}
    assert by_module == {"a": 0.0, "b": pytest.approx(1.0)}


def test_laws_with_a_kernel_of_their_own_keep_the_signal():
    graph = capture(nn.Conv2d(8, 8, 3, padding=1, bias=False), (2, 8, 4, 4))
    mean, second = (torch.from_numpy(t).double() for t in Dirac().moments((8, 8, 3, 3)))
    flow = propagate(graph, {}, {"weight": (mean, second)})
    assert flow.second(graph.outputs[0]) == pytest.approx(1.0)  # the identity


def test_buffers_that_the_graph_does_not_know_may_be_given():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.tensor([2.0]))

        def forward(self, x):
            return x * self.scale

    graph = capture(Scaled(), (4, 3))
    graph.values[graph.buffers["scale"]].known = None
    flow = propagate(graph, {}, {}, buffers={"scale": torch.tensor([2.0])}, on_unknown="error")
    assert flow.second(graph.outputs[0]) == pytest.approx(4.0)


class Turned(nn.Module):
    """Layers that all multiply by views of one table, as rotary embeddings do."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
        self.register_buffer("table", torch.linspace(0.0, 2.0, 5 * 16).reshape(5, 16).cos())

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x) * self.table.unsqueeze(0)
        return x


def test_a_table_that_every_layer_reads_has_its_moments_once(monkeypatch):
    made = []

    def constant(value, roles=None, make=_signal.constant):
        made.append(value.shape)
        return make(value, roles)

    def prediction():
        made.clear()
        torch.manual_seed(0)
        net = Turned()
        graph = capture(net, torch.randn(3, 5, 16))
        zero, some = torch.tensor(0.0).double(), torch.tensor(0.1).double()
        flow = propagate(graph, {}, dict.fromkeys(graph.parameters, (zero, some)), on_unknown="error")
        return [flow.second(n.outputs[0]) for n in graph.nodes if n.outputs[0] in flow.signals], flow.gradients()

    monkeypatch.setattr(_signal, "constant", constant)
    once = prediction()
    assert len(made) == 1
    monkeypatch.setattr(Signal, "placing", lambda x, roles: constant(x.known.expand(x.shape), roles))
    assert prediction() == once
    assert len(made) == 4


class NoBoxes(nn.Module):
    """A detector's last steps where no box was found."""

    def forward(self, x):
        found = x[:0]
        return x.sum(), F.gelu(found.unsqueeze(1)).reshape(0, 28) * 2.0


def test_empty_values_have_no_moments_to_compute():
    graph = capture(NoBoxes(), torch.randn(4, 14, 2))
    flow = propagate(graph, {}, {}, on_unknown="error")
    assert flow.signals[graph.outputs[-1]].shape == (0, 28)
