"""Normalisation: what it divides by, what it removes, and what its Jacobian takes from small changes."""

import pytest
import torch
from torch import nn

from stepzero.moments import Moments, propagate
from stepzero.network import capture

NORMS = {
    "batch norm": (nn.BatchNorm2d(8), (6, 8, 7, 7)),
    "batch norm, one-dimensional": (nn.BatchNorm1d(8), (128, 8)),
    "batch norm, three-dimensional": (nn.BatchNorm3d(6), (6, 6, 4, 4, 4)),
    "batch norm without affine": (nn.BatchNorm2d(8, affine=False), (6, 8, 7, 7)),
    "instance norm": (nn.InstanceNorm2d(8), (3, 8, 12, 12)),
    "instance norm, affine": (nn.InstanceNorm2d(8, affine=True), (3, 8, 12, 12)),
    "group norm": (nn.GroupNorm(4, 32), (3, 32, 6, 6)),
    "layer norm": (nn.LayerNorm(192), (3, 4, 192)),
    "layer norm over a map": (nn.LayerNorm([24, 5, 5]), (3, 24, 5, 5)),
    "rms norm": (nn.RMSNorm(192), (3, 4, 192)),
}
FINITE = 0.05  # sets of about 200 elements: terms of order 1/N are left out


@pytest.mark.parametrize("name", NORMS)
def test_norms_in_training(hold, name):
    module, shape = NORMS[name]
    loose = dict.fromkeys(("second", "near", "elsewhere", "across", "apart"), FINITE)
    last = isinstance(module, (nn.RMSNorm, nn.LayerNorm)) and len(shape) == 3
    hold(
        module.train(), shape, weight=(0.8, 0.3), draws=120, channel_last=last, loose={**loose, "mean": 0.02},
        loose_change=loose,
    )  # fmt: skip


def test_batch_norm_divides_by_what_is_not_shared():
    """The variance within a batch is E[x²] less the mean over all pairs, not E[x²] - E[x]²."""
    graph = capture(nn.BatchNorm2d(4, affine=False, eps=1e-12).train(), (8, 4, 8, 8))
    q, pair = torch.ones(1, 1, 1, 1).double(), torch.full((1, 1, 1, 1), 0.75).double()
    flow = propagate(graph, {"input": Moments(0 * q, q, pair, pair, pair, pair)}, {})
    y = flow.signals[graph.outputs[0]]
    size = 8 * 8 * 8
    assert float(y.second) == pytest.approx(1.0)
    assert float(y.elsewhere) == pytest.approx(-1.0 / (size - 1))  # what is left is private: pairs sum to minus itself


@pytest.mark.parametrize("module", [nn.BatchNorm2d(6), nn.InstanceNorm2d(6, track_running_stats=True)])
def test_norms_in_eval_mode_are_affine(hold, module):
    module.running_mean.uniform_(-0.5, 0.5)
    module.running_var.uniform_(0.5, 2.0)
    hold(module.eval(), (3, 6, 5, 5), draws=120, weight=(0.8, 0.3))


class DepthwiseThenNorm(nn.Module):
    def __init__(self, padding):
        super().__init__()
        self.expand = nn.Conv2d(64, 64, 1, bias=False)
        self.depthwise = nn.Conv2d(64, 64, 3, groups=64, bias=False, padding=1, padding_mode=padding)
        self.norm = nn.BatchNorm2d(64, affine=False)

    def forward(self, x):
        return self.norm(self.depthwise(self.expand(x)))


@pytest.mark.parametrize(("padding", "size"), [("circular", 12), ("zeros", 4)])
def test_few_weights_make_channels_unequal_for_gradients(padding, size):
    """E[1/v] exceeds 1/E[v] by 9/7 between a depthwise 3×3 and its norm, and by nothing in front of both.

    On a padded 4×4 map an output meets 6.25 taps, but a channel's variance is made by all nine: 8.65 count.
    """
    module, zero, one = DepthwiseThenNorm(padding).train(), torch.tensor(0.0).double(), torch.tensor(1.0).double()
    inputs = 8 * (12 // size) ** 2
    graph = capture(module, (inputs, 64, size, size))
    flow = propagate(graph, {}, dict.fromkeys(graph.parameters, (zero, one)))
    expand, depthwise = flow.gradients().values()
    torch.manual_seed(3)
    rows = []
    for _ in range(60):
        kept = []
        for p in module.parameters():
            nn.init.normal_(p)
        hooks = [
            m.register_forward_hook(lambda m, i, o, kept=kept: kept.append(o))
            for m in (module.expand, module.depthwise)
        ]
        y = module(torch.randn(inputs, 64, size, size))
        rows.append([g.square().mean() for g in torch.autograd.grad(y, kept, torch.randn_like(y))])
        [h.remove() for h in hooks]
    means, errors = torch.tensor(rows).mean(0), torch.tensor(rows).std(0) / 60**0.5
    # that the 64 weights of the expansion are finitely many too is left out: 64/62
    assert abs(float(means[0]) - expand) <= 5 * float(errors[0]) + 0.035 * expand
    assert abs(float(means[1]) - depthwise) <= 5 * float(errors[1]) + 0.035 * depthwise


class NormOfFew(nn.Module):
    """A norm over few places that are alike: 4 inputs of 4×4, behind ReLU."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(32, 128, 1, bias=False)
        self.second = nn.Conv2d(128, 128, 3, padding=1, padding_mode="circular", bias=False)
        self.norm = nn.BatchNorm2d(128, affine=False)

    def forward(self, x):
        return self.norm(self.second(torch.relu(self.first(x))))


def test_a_small_set_s_variance_scatters_and_gradients_see_it():
    """E[v] E[1/v] is 63/61 for 64 independent members: in front of the weights too, unlike that of few weights."""
    module, zero = NormOfFew().train(), torch.tensor(0.0).double()
    graph = capture(module, (4, 32, 4, 4))
    law = {n: (zero, zero + 1 / (9 * 128 if "second" in n else 32)) for n in graph.parameters}
    predicted = torch.tensor(list(propagate(graph, {}, law).gradients().values()))
    torch.manual_seed(5)
    rows = []
    for _ in range(400):
        for name, p in module.named_parameters():
            nn.init.normal_(p, 0.0, float(law[name][1]) ** 0.5)
        first = module.first(torch.randn(4, 32, 4, 4))
        second = module.second(torch.relu(first))
        y = module.norm(second)
        grads = torch.autograd.grad(y, [first, second], torch.randn_like(y))
        rows.append([g.square().mean() for g in grads])
    means, errors = torch.tensor(rows).mean(0), torch.tensor(rows).std(0) / 400**0.5
    assert ((means - predicted).abs() <= 4 * errors + 0.005 * predicted).all()


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 1, 6), (3, 2, 8)])
def test_channels_of_few_weights_correlate_their_places_each_in_its_own_way(kernel, stride, size):
    """E[ρ] = 0 between places behind a depthwise convolution of white noise, but E[ρ²] is not, and ReLU sees it."""
    channels, zero, one = 256, torch.tensor(0.0).double(), torch.tensor(1.0).double()
    depthwise = nn.Conv2d(
        channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False, padding_mode="circular"
    )
    module = nn.Sequential(depthwise, nn.BatchNorm2d(channels, affine=False), nn.ReLU()).train()
    graph = capture(module, (16, channels, size, size))
    y = propagate(graph, {}, {"0.weight": (zero, one / kernel**2)}).signals[graph.outputs[0]].moments
    torch.manual_seed(6)
    rows = []
    for _ in range(40):
        nn.init.normal_(depthwise.weight)
        with torch.no_grad():
            out = module(torch.randn(16, channels, size, size)).double()
        places = out[0, 0].numel()
        beside = ((out[..., 1:] * out[..., :-1]).mean() + (out[:, :, 1:] * out[:, :, :-1]).mean()) / 2
        own = out.flatten(2).sum(2).square().mean() / places
        rows.append(torch.stack([beside, (own - out.square().mean()) / (places - 1)]))
    means, errors = torch.stack(rows).mean(0), torch.stack(rows).std(0) / 40**0.5
    predicted = torch.stack([y.near.mean(), y.elsewhere.mean()])
    assert ((means - predicted).abs() <= 4 * errors + 0.0005).all()


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.SiLU(), nn.Hardswish()])
def test_changes_behind_few_weights_live_where_outputs_are_large(activation):
    """E[w²φ'(x)²·φ'(y)²] for y = Σ w φ(x): 15 % above the product for smooth steep activations, not for ReLU."""
    first = nn.Conv2d(64, 64, 1, bias=False)
    depthwise = nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular", groups=64, bias=False)
    norm = nn.BatchNorm2d(64, affine=False)
    module = nn.Sequential(first, norm, activation, depthwise, nn.BatchNorm2d(64), activation).train()
    graph = capture(module, (16, 64, 8, 8))
    zero, one = torch.tensor(0.0).double(), torch.tensor(1.0).double()
    laws = {n: (one, one) if n == "4.weight" else (zero, zero if n == "4.bias" else one) for n in graph.parameters}
    predicted = next(iter(propagate(graph, {}, laws).gradients().values()))
    torch.manual_seed(7)
    found = []
    for _ in range(60):
        nn.init.normal_(first.weight)
        nn.init.normal_(depthwise.weight)
        z = first(torch.randn(16, 64, 8, 8)).detach().requires_grad_()
        y = module[1:](z)
        (g,) = torch.autograd.grad(y, z, torch.randn_like(y))
        found.append(g.square().mean())
    mean, error = torch.stack(found).mean(), torch.stack(found).std() / 60**0.5
    assert abs(float(mean) - predicted) <= 4 * float(error) + 0.04 * predicted  # of second order in 1/9


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.SiLU()])
def test_gradients_that_places_have_in_common_grow_behind_few_weights(activation):
    """E[w w'] = 0, but not E[w w' φ'(y)φ'(y')]: a mean over the map finds 30 to 38 % more in front of a depthwise 3×3."""
    first = nn.Conv2d(64, 64, 1, bias=False)
    depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
    norms = [nn.BatchNorm2d(64, affine=False) for _ in range(2)]
    module = nn.Sequential(
        first, norms[0], activation, depthwise, norms[1], activation, nn.AdaptiveAvgPool2d(1)
    ).train()
    graph = capture(module, (32, 64, 6, 6))
    law = torch.tensor(0.0).double(), torch.tensor(1.0).double()  # far from the scale that norms bring
    predicted = next(iter(propagate(graph, {}, dict.fromkeys(graph.parameters, law)).gradients().values()))
    torch.manual_seed(9)
    found = []
    for _ in range(60):
        nn.init.normal_(first.weight)
        nn.init.normal_(depthwise.weight)
        z = first(torch.randn(32, 64, 6, 6)).detach().requires_grad_()
        y = module[1:](z)
        (g,) = torch.autograd.grad(y, z, torch.randn_like(y))
        found.append(g.square().mean())
    mean, error = torch.stack(found).mean(), torch.stack(found).std() / 60**0.5
    assert abs(float(mean) - predicted) <= 4 * float(error) + 0.05 * predicted  # too high by 1 % (ReLU), 5 % (SiLU)


def test_a_norm_of_one_element_puts_out_zero():
    class One(nn.Module):
        def forward(self, x):
            return nn.functional.layer_norm(x, [1])

    graph = capture(One(), (2, 5, 1))
    y = propagate(graph, {}, {}, on_unknown="error").signals[graph.outputs[0]]
    assert all(float(t.abs().max()) == 0.0 for t in y.moments)


class NormalisedShortcut(nn.Module):
    """A block of RepVGG (Ding et al. 2021): normalised branches of one activation, the activation itself among them."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(512, 128, 1, bias=False)
        self.second = nn.Conv2d(128, 128, 3, padding=1, padding_mode="circular", bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(128, affine=affine) for affine in (True, False))

    def forward(self, x):
        y = torch.relu(self.first(x))
        return torch.relu(self.norms[0](y) + self.norms[1](self.second(y)))


def test_changes_of_a_normalised_activation_live_where_it_is_high():
    """E[φ'(x)²φ'(BN(φ(x)) + branch)²] is not the product: with ReLU the second is open for two changes of three."""
    module, zero = NormalisedShortcut().train(), torch.tensor(0.0).double()
    graph = capture(module, (8, 512, 6, 6))
    laws = {n: (zero, zero + 1 / (9 * 128 if "second" in n else 512)) for n in graph.parameters}
    laws |= {"norms.0.weight": (zero + 1, zero + 1), "norms.0.bias": (zero, zero)}
    predicted = next(iter(propagate(graph, {}, laws).gradients().values()))
    torch.manual_seed(8)
    found = []
    for _ in range(30):
        for p in (module.first.weight, module.second.weight):
            nn.init.normal_(p, 0.0, p[0].numel() ** -0.5)
        z = module.first(torch.randn(8, 512, 6, 6)).detach().requires_grad_()
        y = torch.relu(z)
        y = torch.relu(module.norms[0](y) + module.norms[1](module.second(y)))
        (g,) = torch.autograd.grad(y, z, torch.randn_like(y))
        found.append(g.square().mean())
    mean, error = torch.stack(found).mean(), torch.stack(found).std() / 30**0.5
    assert abs(float(mean) - predicted) <= 4 * float(error) + 0.01 * predicted


@pytest.mark.parametrize(
    ("norm", "shape", "shared"),
    [(nn.BatchNorm2d(64), (8, 96, 2, 2), 0.005), (nn.GroupNorm(32, 64), (4, 96, 8, 8), 0.03)],
)
def test_strong_modes_of_a_small_set_make_its_variance_scatter(norm, shape, shared):
    """Patterns of a padded 2×2 map that all inputs share, and means of two channels of a group: few modes, much of v.

    Where they are strong, v is large: they keep less of the output than their share, and E[v]E[1/v] is 1.26 and 1.15.
    That inputs with groups of their own share strong modes is left out: 0.03 of what two of them have in common.
    """

    class Behind(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights, self.norm = nn.Conv2d(96, 64, 3, padding=1, bias=False), norm.train()

        def forward(self, x):
            return self.norm(self.weights(torch.relu(x)))

    module, zero = Behind(), torch.tensor(0.0).double()
    graph = capture(module, shape)
    laws = {"weights.weight": (zero, zero + 1 / 864), "norm.weight": (zero + 1, zero + 1), "norm.bias": (zero, zero)}
    flow = propagate(graph, {}, laws)
    (gradient,) = flow.gradients().values()
    y = flow.signals[graph.outputs[0]].moments
    torch.manual_seed(9)
    rows = []
    for _ in range(150):
        nn.init.normal_(module.weights.weight, 0.0, 864**-0.5)
        z = module.weights(torch.relu(torch.randn(shape))).detach().requires_grad_()
        out = module.norm(z)
        (g,) = torch.autograd.grad(out, z, torch.randn_like(z))
        b, p, out = shape[0], shape[2] * shape[3], out.detach().flatten(2).double()
        across = (out.sum(0).square().mean() / b - out.square().mean()) / (b - 1)
        elsewhere = (out.sum(2).square().mean() / p - out.square().mean()) / (p - 1)
        rows.append(torch.stack([g.square().mean(), elsewhere, across]))
    means, errors = torch.stack(rows).mean(0), torch.stack(rows).std(0) / 150**0.5
    predicted = torch.stack([torch.tensor(gradient), y.elsewhere.mean(), y.across.mean()])
    assert ((means - predicted).abs() <= 4 * errors + torch.tensor([0.01 * gradient, 0.005, shared])).all()


def test_pairs_of_a_stream_far_below_eps_are_no_larger_than_its_own_square():
    norm = nn.BatchNorm2d(8)
    graph = capture(nn.Sequential(Small(), norm), torch.randn(2, 8, 4, 4))
    alike = Moments(*(torch.tensor(v, dtype=torch.float64) for v in (0.0, 1.0, 0.6, 0.6, 0.1, 0.0)))
    flow = propagate(graph, {"input": alike}, {n: (torch.zeros(()), torch.ones(())) for n in graph.parameters})
    m = flow.signals[graph.nodes[-1].outputs[0]].moments
    assert all(float(t.abs().mean()) <= float(m.second.mean()) for t in m[2:])


class Small(nn.Module):
    def forward(self, x):
        return x * 1e-5


def test_of_a_single_weight_only_eps_keeps_the_gradient_finite():
    """E[1/(w² + eps)]: 20 times 1/E[w² + eps] at eps = 0.004, 395 times at 1e-5."""
    module = nn.Sequential(nn.Conv2d(8000, 8000, 1, groups=8000, bias=False), nn.BatchNorm2d(8000, 2e-3, affine=False))
    graph = capture(module.train(), (4, 8000, 2, 2))
    zero = torch.tensor(0.0).double()
    (predicted,) = propagate(graph, {}, {"0.weight": (zero, zero + 0.5)}).gradients().values()
    torch.manual_seed(4)
    with torch.no_grad():
        z = module[0](torch.randn(4, 8000, 2, 2)) / module[0].weight[:, 0] * torch.randn(8000, 1, 1) * 0.5**0.5
    z.requires_grad_()
    y = module[1](z)
    (g,) = torch.autograd.grad(y, z, torch.randn_like(y))
    each = g.square().mean((0, 2, 3))
    assert abs(float(each.mean()) - predicted) < 5 * float(each.std()) / 8000**0.5


class StartingAtZero(nn.Module):
    """Branches are added up from 0, as MobileOne's blocks do."""

    def __init__(self, start):
        super().__init__()
        self.start, self.block = start, NormalisedShortcut()

    def forward(self, x):
        y = torch.relu(self.block.first(x))
        total = self.start + self.block.norms[0](y) if self.start is not None else self.block.norms[0](y)
        return torch.relu(total + self.block.norms[1](self.block.second(y)))


def test_a_sum_that_starts_at_zero_is_that_sum():
    zero = torch.tensor(0.0).double()
    found = []
    for start in (None, 0):
        graph = capture(StartingAtZero(start).train(), (8, 512, 6, 6))
        laws = dict.fromkeys(graph.parameters, (zero, zero + 0.001))
        laws |= {"block.norms.0.weight": (zero + 1, zero + 1), "block.norms.0.bias": (zero, zero)}
        flow = propagate(graph, {}, laws)
        found.append((flow.second(graph.outputs[0]), *flow.gradients().values()))
    assert found[0] == pytest.approx(found[1], rel=1e-12)


class Bright(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("light", torch.linspace(0.5, 1.5, 4)[:, None] * torch.linspace(0.5, 1.5, 4))
        self.norm = nn.BatchNorm2d(400, affine=False)

    def forward(self, x):
        return self.norm(x * self.light)


def test_a_mean_over_uneven_places_takes_each_with_the_others():
    """The mean product of the darkest corner with all other places is -0.013; an even mean would leave it 0.003."""
    net = Bright().double().train()
    level = torch.full((1, 1, 1, 1), 1.0, dtype=torch.float64)
    moments = Moments(0.6 * level, 1.36 * level, *(0.36 * level,) * 4)  # 0.6 + N(0, 1), all independent
    graph = capture(net, (torch.zeros(8, 400, 4, 4),))
    y = propagate(graph, {"x": moments}, {}).signals[graph.outputs[0]]
    torch.manual_seed(3)
    with torch.no_grad():
        x = net(0.6 + torch.randn(8, 400, 4, 4, dtype=torch.float64))
    others = (x.sum(dim=(2, 3), keepdim=True) - x) / 15
    for corner in (0, 3):
        products = x[:, :, corner, corner] * others[:, :, corner, corner]
        error = float(products.mean(0).std()) / 20  # over 400 independent channels
        predicted = float(y.elsewhere.expand(y.shape)[0, 0, corner, corner])
        assert abs(float(products.mean()) - predicted) < 5 * error
