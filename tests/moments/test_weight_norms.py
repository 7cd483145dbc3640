"""Weights that the graph itself rescales: standardised, with a length of their own, by their spectral norm."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from stepzero.errors import NoRuleError
from stepzero.laws import DeltaOrthogonal, Orthogonal
from stepzero.moments import propagate, weight_scatter
from stepzero.network import capture


class Standardised(nn.Module):
    """As in weight-standardised ResNets: batch_norm over each filter of the weight."""

    def __init__(self, c=16, padding=0):
        super().__init__()
        self.padding = padding
        self.weight, self.gain = nn.Parameter(torch.ones(c, c, 3, 3)), nn.Parameter(torch.ones(c, 1, 1, 1))

    def forward(self, x):
        w = self.weight.reshape(1, 16, -1)
        w = F.batch_norm(w, None, None, weight=self.gain.view(-1), training=True, eps=1e-6).reshape_as(self.weight)
        return F.conv2d(x, w, padding=self.padding)


def test_standardised_weights_see_only_what_differs_from_the_mean(hold):
    hold(Standardised(), (3, 16, 5, 5), weight=(0.0, 0.5), draws=250)


@pytest.mark.parametrize("side", [2, 3])
def test_where_a_window_leaves_the_map_rows_do_not_sum_to_zero(hold, side):
    loose = dict.fromkeys(("near", "elsewhere", "apart"), 0.05)  # what the mean leaves of pairs is left out
    hold(Standardised(padding=1), (3, 16, side, side), weight=(0.0, 0.5), draws=250, loose=loose)


def test_other_places_have_means_of_their_own():
    conv = capture(nn.Sequential(nn.MaxPool2d(3, 2, 1), Standardised()), torch.randn(2, 16, 16, 16))
    flow = propagate(conv, {}, dict.fromkeys(conv.parameters, (torch.zeros(()), torch.ones(()))))
    m = flow.signals[conv.outputs[0]].moments
    assert abs(float(m.apart.mean())) < 1e-6 * float(m.second.mean())  # independent inputs have nothing but the mean


def test_weight_norm_divides_the_scale_out(hold):
    module = weight_norm(nn.Conv2d(12, 16, 3, bias=False))
    hold(module, (3, 12, 5, 5), weight=(0.0, 0.5), draws=250)


def test_the_knob_of_a_normalised_weight_is_its_length():
    zero, one = torch.tensor(0.0).double(), torch.tensor(1.0).double()
    knobs = []

    class Recording:
        def settle(self, call, weight, load):
            knobs.append(weight.knob)
            return weight

    for module in (weight_norm(nn.Conv2d(4, 8, 3, bias=False)), Standardised()):
        graph = capture(module, (2, 4 if len(knobs) == 0 else 16, 5, 5))
        propagate(graph, {}, dict.fromkeys(graph.parameters, (zero, one)), weights=Recording())
    assert [k.parameter for k in knobs] == ["parametrizations.weight.original0", "gain"]
    assert knobs[0].factor == pytest.approx(1 / 36)
    assert knobs[1].factor == pytest.approx(1.0)


def spectral(old, layer, train=True):
    wrap = nn.utils.spectral_norm if old else nn.utils.parametrizations.spectral_norm
    return wrap(layer).train(train)


LAYERS = {
    "linear": (lambda: nn.Linear(16, 24, bias=False), (2, 16)),
    "conv": (lambda: nn.Conv1d(6, 8, 3, bias=False), (2, 6, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(6, 8, 3, bias=False), (2, 6, 4, 4)),  # its rows are axis 1
}


def followed(module, shape):
    zero, one = torch.tensor(0.0).double(), torch.tensor(1.0).double()
    graph = capture(module, shape)
    flow = propagate(graph, {}, dict.fromkeys(graph.parameters, (zero, one)), on_unknown="error")
    weight = graph.producer(graph.outputs[0]).arguments["weight"].id
    return flow.signals[weight]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("old", [False, True])
def test_a_weight_over_its_spectral_norm_has_the_scale_that_its_power_iterations_leave(old, kind, monkeypatch):
    make, shape = LAYERS[kind]
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda layer: nn.init.normal_(layer.weight, std=3.0))
    monkeypatch.setattr(nn.modules.conv._ConvNd, "reset_parameters", lambda layer: nn.init.normal_(layer.weight))
    squares = []
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(4)
        for _ in range(150):
            module = spectral(old, make())
            if old:
                module(torch.zeros(shape))  # one iteration, from the constructor's random direction
                squares.append(module.weight.square().mean())
            else:
                squares.append(module.weight.square().mean())  # reading it in train mode is an iteration: 16
    found = torch.stack(squares).double()
    weight = followed(spectral(old, make()), shape)
    assert weight.knob is None
    error = float(found.std()) * (1 / 150 + 1 / 4096) ** 0.5
    assert abs(float(found.mean()) - weight.average(weight.second)) < 5 * error


@pytest.mark.parametrize("shape", [(24, 6, 3), (6, 16)])
@pytest.mark.parametrize("law", [Orthogonal(3.0), DeltaOrthogonal(3.0)])
def test_equal_singular_values_leave_an_orthogonal_weight_its_own_length(law, shape):
    if isinstance(law, DeltaOrthogonal) and len(shape) == 2:
        law, shape = Orthogonal(3.0, blocks=3), (24, 8)
    kernel = {2: lambda: nn.Linear(shape[1], shape[0], bias=False), 3: lambda: nn.Conv1d(6, 24, 3, bias=False)}
    layer = spectral(False, kernel[len(shape)]())
    name, original = "parametrizations.weight.original", layer.parametrizations.weight.original
    with torch.no_grad():
        original.copy_(torch.from_numpy(law.draw(shape, seed=3, name=name)))
        layer.parametrizations.weight[0]._power_method(original.flatten(1), 1)
        found = layer.weight.square()
    moments = tuple(torch.from_numpy(t).double() for t in law.moments(shape))
    graph = capture(layer, torch.zeros(2, shape[1], *[5] * (len(shape) - 2)))
    flow = propagate(graph, {}, {name: moments}, on_unknown="error", isometric=[name])
    weight = flow.signals[graph.producer(graph.outputs[0]).arguments["weight"].id]
    assert weight.average(weight.second) == pytest.approx(float(found.mean()), rel=1e-5)
    assert weight_scatter(flow, graph.producer(graph.outputs[0])) == 0.0


def test_vectors_that_saw_no_iteration_divide_by_what_may_be_zero():
    with pytest.raises(NoRuleError, match="train mode only"):
        followed(spectral(True, nn.Linear(4, 4, bias=False), train=False), (2, 4))
    assert followed(spectral(False, nn.Linear(4, 4, bias=False), train=False), (2, 4)).second.mean() < 1


def test_a_product_with_a_vector_that_serves_no_norm_has_no_rule():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 4))

        def forward(self, x):
            return torch.mv(self.weight, x)

    with pytest.raises(NoRuleError, match="mv"):
        followed(Product(), (4,))
