"""Squares that stray together: few weights, and norms over few members, against Monte Carlo."""

import pytest
import torch
from torch import nn

from stepzero.moments import Moments, Signal, propagate
from stepzero.moments import _roles as R
from stepzero.moments._meetings import Meetings
from stepzero.moments._signal import Tails
from stepzero.moments._tails import of_norm, of_weights
from stepzero.network import capture

CHANNELS = 500


def block(act, kernel):
    """An activation whose channels a depthwise convolution keeps apart, a norm, the activation again."""
    depthwise = nn.Conv2d(CHANNELS, CHANNELS, kernel, 1, kernel // 2, groups=CHANNELS, bias=False)
    norms = [nn.BatchNorm2d(CHANNELS, affine=False) for _ in range(2)]
    return nn.Sequential(norms[0], act(), depthwise, norms[1], act()).train()


def statistics(y):
    """Mean, second moment, and pairs: elsewhere, across, apart."""
    b, p = y.shape[0], y[0, 0].numel()
    second, own, over = y.square().mean(), y.sum((2, 3)).square().mean() / p, y.sum(0).square().mean() / b
    elsewhere, across = (own - second) / (p - 1), (over - second) / (b - 1)
    both = y.sum((0, 2, 3)).square().mean() / (p * b)
    apart = (both - second - (p - 1) * elsewhere - (b - 1) * across) / ((p - 1) * (b - 1))
    return torch.stack([y.mean(), second, elsewhere, across, apart])


@pytest.mark.parametrize("act", [nn.ReLU, nn.Hardswish, nn.SiLU])
@pytest.mark.parametrize(("kernel", "size"), [(3, 4), (5, 4), (3, 2)])
def test_activations_behind_depthwise_convolutions(act, kernel, size):
    """Second moment, mean and pairs: Gaussians are up to 7 %, 6 % and 5 % of E[x²] off; here 2 %, 2.5 % and 1.5 %."""
    module, shape = block(act, kernel), (8, CHANNELS, size, size)
    graph = capture(module, shape)
    zero, one = (torch.tensor(v).double() for v in (0.0, 1.0))
    y = propagate(graph, {}, {"2.weight": (zero, one)}).signals[graph.outputs[0]]
    torch.manual_seed(3)
    rows = []
    for _ in range(12):
        nn.init.normal_(module[2].weight)
        with torch.no_grad():
            rows.append(statistics(module(torch.randn(shape)).double()))
    found, errors = torch.stack(rows).mean(0), torch.stack(rows).std(0) / len(rows) ** 0.5
    m = y.moments
    expected = torch.stack([t.mean() for t in (m.mean, m.second, m.elsewhere, m.across, m.apart)])
    allowed = torch.tensor([0.025 * expected[0], *(share * expected[1] for share in (0.02, 0.01, 0.015, 0.015))])
    assert ((found - expected).abs() <= allowed + 5 * errors).all(), (found / expected[1], expected / expected[1])


def test_few_weights_make_a_scale_mixture():
    """One place, n weights, Gaussian inputs: E[y⁴]/E[y²]² = 3(1 + 2/n), and two inputs differ by their variance alone."""
    x = Signal((8, 1, 1, 1), R.guess((8, 1, 1, 1)), white(0.0))
    tails = of_weights(x, Meetings(1 / 9, 0.0, 0.0, 0.0, 0.0))
    assert tails == Tails(pytest.approx(6 / 9), 0.0, 0.0, pytest.approx(2 / 9), 0.0)


def white(mean):
    m, q = (torch.full((1, 1, 1, 1), v, dtype=torch.float64) for v in (mean, 1.0))
    return Moments(m, q, *(m * m,) * 4)


@pytest.mark.parametrize("members", [(4, 8), (16, 2), (1, 32)])
def test_a_norm_over_few_independent_gaussians(members):
    """Σ x̂² = N: the kurtosis is -6/(N + 2), and squares of two members are -2/(N + 2) alike (up to the mean removed)."""
    places, inputs = members
    n = places * inputs
    x = Signal((inputs, 1, places), R.guess((inputs, 1, places)), white(0.0).each(lambda t: t[..., 0]))
    tails = of_norm(x, x.moments, places, inputs)
    assert tails.own == pytest.approx(-6 / (n + 2))
    assert tails.apart == pytest.approx(-2 / (n + 2))


def test_weights_that_all_members_share_are_divided_out_exactly():
    """3(1 + 2/n) + 3κ/n of a channel's own scale becomes 3 + 3κ/(n + 2) behind a norm over many members."""
    n, kurtosis = 9, 2.0
    shape = (1000, 1, 1000)
    m = white(0.0).each(lambda t: t[..., 0])
    own = (6 + 3 * kurtosis) / n
    x = Signal(shape, R.guess(shape), m, tails=Tails(own, *(2 / n,) * 4))
    assert of_norm(x, m, 1000, 1000).own == pytest.approx(3 * kurtosis / (n + 2), rel=1e-4)
