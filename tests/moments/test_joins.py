"""Ops of two operands: sums, products, gates, masks."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.errors import NoRuleError
from stepzero.moments import Moments, Signal, propagate
from stepzero.moments import _roles as R
from stepzero.network import capture

SHAPE = (3, 8, 5, 5)
WHITE = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *xs):
        return self.function(*xs)


JOINS = {
    "sum": lambda a, b: a + b,
    "weighted sum": lambda a, b: torch.add(a, b, alpha=0.5),
    "difference": lambda a, b: a - b,
    "product": lambda a, b: a * b,
    "product with a gate": lambda a, b: a * torch.sigmoid(b),
    "sum of activations": lambda a, b: F.relu(a) + F.gelu(b),
    "affine": lambda a, b: (2 * a - 0.3) + b / 2,
}


@pytest.mark.parametrize("name", JOINS)
def test_joins_of_independent_operands(hold, name):
    hold(Of(JOINS[name]), SHAPE, SHAPE, draws=120)


class Bright(nn.Module):
    """A sum of two maps whose means are largest in one corner, as they are least at a border of zeros."""

    def __init__(self):
        super().__init__()
        self.register_buffer("light", torch.linspace(0.0, 1.0, 5)[:, None] * torch.linspace(0.0, 1.0, 5))

    def forward(self, a, b):
        return a * self.light + b * self.light


def test_another_place_of_a_sum_has_means_of_its_own(hold):
    hold(Bright(), SHAPE, SHAPE, draws=120, loose={"near": 0.03}, loose_change={"near": 0.03})


def post_activation(stream, *branches):
    y = F.relu(stream)
    for branch in branches:
        y = F.relu(y + branch)
    return y


@pytest.mark.parametrize("branches", [1, 2, 3])
def test_streams_of_post_activation_nets_are_skewed_and_stay_open_where_they_are_high(hold, branches):
    """As a Gaussian, the stream's variance would be 11 % low after two sums, and a change's E[φ'²φ'²] 20 % low."""
    hold(
        Of(post_activation), *[SHAPE] * (branches + 1), moments=WHITE, draws=200,
        loose=dict.fromkeys(("second", "mean"), 0.012 * branches), loose_change={"second": 0.03 * branches},
    )  # fmt: skip


@pytest.mark.parametrize("op", [torch.maximum, torch.minimum])
def test_the_larger_of_two_gaussians(hold, op):
    pairs = dict.fromkeys(("near", "elsewhere", "across", "apart"), 0.03)  # of first order in their covariances
    changes = dict.fromkeys(("near", "elsewhere", "across", "apart"), 0.08)  # both taken independently from one side
    hold(Of(op), SHAPE, SHAPE, draws=120, loose=pairs, loose_change=changes)


def test_gated_linear_units(hold):
    hold(nn.GLU(dim=1), (3, 16, 5, 5), draws=120)


def test_a_mask_that_is_known_picks(hold):
    mask = torch.arange(25).reshape(5, 5) % 3 == 0
    apart = dict.fromkeys(("near", "elsewhere", "apart"), 0.4)  # pairs of two sides count as pairs of one
    hold(Of(lambda a, b: torch.where(mask, a, b)), SHAPE, SHAPE, draws=100, loose=apart, loose_change=apart)
    hold(Of(lambda a: a.masked_fill(mask, 0.7)), SHAPE, draws=100, loose=apart, loose_change=apart)


class SqueezeExcite(nn.Module):
    """x · sigmoid(W relu(W mean(x))), as in squeeze-and-excitation."""

    def __init__(self, c=64, r=32):
        super().__init__()
        self.down, self.up = nn.Conv2d(c, r, 1), nn.Conv2d(r, c, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


def test_squeeze_excite_gates(hold):
    # the gate is taken as independent of what it gates, and its few hidden units as many
    hold(
        SqueezeExcite(), (4, 64, 6, 6), weight=(0.0, 0.15), draws=150,
        loose=dict.fromkeys(("second", "mean", "near", "elsewhere", "across", "apart"), 0.02),
        loose_change=dict.fromkeys(("second", "near", "elsewhere", "across", "apart"), 0.05),
    )  # fmt: skip


def test_layer_scale_is_a_factor_for_each_channel(hold):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(8, 1, 1))

        def forward(self, x):
            return x + x.tanh() * self.gamma

    class Branch(Scaled):
        def forward(self, x):
            return x * self.gamma

    hold(Branch(), SHAPE, weight=(0.2, 0.1), draws=150)


def test_a_mask_that_depends_on_data_is_not_a_rule():
    graph = capture(Of(lambda a: torch.where(a.roll(1, -1) > 0, a, -a)), SHAPE)
    with pytest.raises(NoRuleError, match="mask that depends on data"):
        propagate(graph, {}, {}, on_unknown="error")


def test_an_operand_without_moments_or_numbers_is_named():
    graph = capture(Of(lambda a: a * (a > 0).float().argmax().float()), SHAPE)
    with pytest.raises(NoRuleError, match="neither moments nor numbers"):
        propagate(graph, {}, {}, on_unknown="error")


class SelectiveKernel(nn.Module):
    """Li et al. 2019: a softmax over branches, channel by channel, mixes their maps."""

    def forward(self, x, logits):
        branches = torch.relu(x).unflatten(1, (2, 24))
        return (branches * torch.softmax(logits.unflatten(1, (2, 24)), 1)).sum(1)


def test_changes_of_a_softmax_over_branches_see_what_differs_between_them():
    """What branches share, the mean above all, a change of their shares does not move."""
    shapes = ((6, 48, 5, 5), (6, 48, 1, 1))
    graph = capture(SelectiveKernel(), tuple(torch.zeros(s) for s in shapes))
    tap = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    zero, one = (torch.full((1, 1, 1, 1), v).double() for v in (0.0, 1.0))
    change = Moments(zero, one * tap, *(zero,) * 4)
    inputs = {"x": Moments(zero, one, zero, zero, zero, zero)}
    inputs["logits"] = Signal(shapes[1], R.guess(shapes[1]), Moments(zero, one, one, one, zero, zero), change)
    y = propagate(graph, inputs, {}, on_unknown="error").signals[graph.outputs[0]]
    predicted = [float(t.detach().mean()) for t in (y.second, y.tangent.second, y.tangent.elsewhere)]
    torch.manual_seed(21)
    rows = []
    for _ in range(200):
        x, logits, step = (torch.randn(shapes[i]).double() for i in (0, 1, 1))
        y, ahead, behind = (SelectiveKernel()(x.double(), logits + h * step) for h in (0.0, 1e-4, -1e-4))
        dy = (ahead - behind) / 2e-4
        own, p = dy.square().mean(), 25
        rows.append(torch.stack([y.square().mean(), own, (dy.sum((2, 3)).square().mean() / p - own) / (p - 1)]))
    means, errors = torch.stack(rows).mean(0), torch.stack(rows).std(0) / 200**0.5
    assert ((means - torch.tensor(predicted)).abs() <= 4 * errors + 1e-3 * means[1]).all()


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_where_one_operand_is_hidden_the_other_wins(name):
    behind, lost = torch.tensor([True, False]), -torch.inf if name == "maximum" else torch.inf
    graph = capture(Of(lambda a, b: getattr(torch, name)(a.masked_fill(behind, lost), b)), ((3, 8, 2), (3, 8, 2)))
    inputs = {"xs_0": Moments(*(torch.full((1, 1, 1), v).double() for v in WHITE))}
    y = propagate(graph, inputs, {}, on_unknown="error").signals[graph.outputs[0]]
    torch.testing.assert_close(
        y.full(y.second)[0, 0], torch.ones(2).double()
    )  # E[max²] of two standard normals is 1 too
    expected = 0.0, (1 if name == "maximum" else -1) * torch.pi**-0.5
    torch.testing.assert_close(y.full(y.mean)[0, 0], torch.tensor(expected).double())


EXPLOSIVE = {
    "sums": lambda x: torch.exp(120 * x) + x,
    "powers": lambda x: (x * 1e160) ** 3 + x.flip(1),
    "products": lambda x: torch.exp(60 * x) * torch.exp(70 * x.flip(2)) + x * 1e200,
    "rectified sums": lambda x: (torch.exp(90 * x) * 1e120).relu() + x.flip(1).relu(),
    "pools": lambda x: F.max_pool1d(torch.exp(60 * x), 2) + 1.0,
}


@pytest.mark.parametrize("name", EXPLOSIVE)
def test_what_explodes_is_no_error_of_arithmetic(name):
    """It is told of where it meets a weight."""
    graph = capture(Of(EXPLOSIVE[name]), (2, 4, 6))
    y = propagate(graph, {}, {}, on_unknown="error").signals[graph.outputs[0]]
    assert not float(y.second.mean()) < 1e100
    assert all(abs(number) < torch.inf for number in y.stream)
