"""Inputs that differ in energy: each formula alone, and a deep SiLU net against Monte Carlo."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stepzero.moments import Moments, Signal, propagate
from stepzero.moments import _roles as R
from stepzero.moments._activations import leaky
from stepzero.moments._energies import drawn_for_each_input, grow, held_back, others, scatter, strayed, varies
from stepzero.moments._pointwise import apply
from stepzero.network import ModelInputs, capture, real_inputs

SHAPE = (8, 16, 4, 4)


def signal(shape=SHAPE, elsewhere=0.0, across=0.0):
    """White noise of unit variance with pairs of these moments."""
    values = (0.0, 1.0, elsewhere, elsewhere, across, 0.0)
    return Signal(
        shape, R.guess(shape), Moments(*(torch.full((1,) * len(shape), v, dtype=torch.float64) for v in values))
    )


def energies(x):
    """The energy of each input over their mean."""
    q = x.second.mean(dim=(1, 2, 3))
    return q / q.mean()


class Net(nn.Sequential):
    """Convolutions of 3×3 with batch norm and an activation."""

    def __init__(self, act, depth=6, width=24):
        widths = [3, *(width,) * depth]
        layers = [[nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), act()] for a, b in pairwise(widths)]
        super().__init__(*(layer for block in layers for layer in block))


def flow_of(net, shape):
    call = real_inputs(ModelInputs.of(shape, net), seed=0)
    graph = capture(net, call)
    parameters = {}
    for name, p in net.named_parameters():
        ones = p.dim() == 1 and name.endswith("weight")
        second = 1.0 if ones else 0.0 if p.dim() == 1 else 1.0 / p[0].numel()
        parameters[name] = (torch.tensor(float(ones), dtype=torch.float64), torch.tensor(second, dtype=torch.float64))
    return graph, propagate(graph, None, parameters)


@given(st.lists(st.floats(0.1, 10.0), min_size=2, max_size=9))
def test_others_average_all_but_their_own(values):
    t = torch.tensor(values, dtype=torch.float64)
    expected = [(sum(values) - v) / (len(values) - 1) for v in values]
    assert others(t, len(values)).tolist() == pytest.approx(expected, rel=1e-9)


@given(st.floats(1e-4, 0.5), st.floats(1e-4, 0.5), st.integers(2, 32))
def test_straying_keeps_the_mean_and_adds_variances_of_logarithms(first, second, inputs):
    x = strayed(strayed(signal((inputs, 4, 2, 2)), first), second)
    q = energies(x)
    assert float(x.second.mean()) == pytest.approx(1.0, rel=1e-9)
    assert float(q.log().var(unbiased=False)) == pytest.approx(first + second, rel=1e-6)


def test_one_input_or_very_many_are_not_followed():
    assert not varies(strayed(signal((1, 4, 2, 2)), 0.1))
    assert not varies(strayed(signal((33, 4, 2, 2)), 0.1))
    assert varies(strayed(signal((32, 4, 2, 2)), 0.1))


def test_strong_inputs_keep_the_share_of_the_variance_that_monte_carlo_gives():
    x = strayed(signal((4, 8, 1, 3)), 0.6)
    x = Signal(x.shape, x.roles, x.moments._replace(near=torch.zeros(1, 1, 1, 1), elsewhere=torch.zeros(1, 1, 1, 1)))
    y, inverse = held_back(x, x.moments, (3.0, 1.0, 1.0, 1.0), 3)  # three independent Gaussian places for each input
    rng = np.random.default_rng(0)
    squares = energies(x).numpy() * rng.chisquare(3, size=(200_000, 4)) / 3
    v = squares.mean(1, keepdims=True)
    assert energies(Signal(x.shape, x.roles, y)).numpy() == pytest.approx((squares / v).mean(0), rel=0.01)
    alike = rng.chisquare(3, size=(200_000, 4)).mean(1) / 3
    assert float(inverse) == pytest.approx((1 / v).mean() / (1 / alike).mean(), rel=0.02)


def test_the_energy_of_finitely_many_channels_strays_as_monte_carlo_says():
    rho, channels, draws = 0.4, 16, 40_000
    x = apply(leaky(0.0), signal((8, channels, 1, 4), elsewhere=rho))
    rng = np.random.default_rng(1)
    common = rng.standard_normal((draws, channels, 1)) * math.sqrt(rho)
    z = common + rng.standard_normal((draws, channels, 4)) * math.sqrt(1 - rho)
    energy = (np.maximum(z, 0) ** 2).mean((1, 2))
    assert scatter(x) == pytest.approx(energy.var() / energy.mean() ** 2, rel=0.05)


def test_what_two_inputs_have_in_common_strays_with_both_and_does_not_count():
    assert scatter(signal(across=1.0)) == pytest.approx(0.0, abs=1e-12)
    assert scatter(signal()) == pytest.approx(2.0 / (16 * 16))


def test_a_branch_that_is_dropped_counts_by_the_chance_that_any_input_is():
    keep = 0.8
    mask = Moments(*(torch.full((1, 1, 1, 1), v, dtype=torch.float64) for v in (1.0, 1 / keep, 1.0, 1.0, 1.0, 1.0)))
    assert drawn_for_each_input(Signal((8, 1, 1, 1), R.guess((8, 1, 1, 1)), mask)) == pytest.approx(
        0.25 * (1 - keep**8)
    )
    assert drawn_for_each_input(signal()) == 0.0


def test_only_nets_that_make_more_of_energies_are_followed():
    assert grow(flow_of(Net(nn.SiLU, 2), (4, 3, 8, 8))[0])
    assert not grow(flow_of(Net(nn.ReLU, 2), (4, 3, 8, 8))[0])
    assert not grow(flow_of(Net(nn.SiLU, 2).eval(), (4, 3, 8, 8))[0])


def test_an_op_that_mixes_the_batch_goes_on_with_an_average_input():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = Net(nn.SiLU, 2)
            self.head = nn.Linear(24, 5)

        def forward(self, x):
            y = self.stem(x)
            n, c, h, w = y.shape
            y = y.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
            return self.head(y)

    graph, flow = flow_of(Windows(), (4, 3, 8, 8))
    varying = [varies(s) for s in flow.signals.values() if s.tangent is not None]
    assert any(varying)
    assert not varies(flow.signals[graph.outputs[0]])


def test_the_energies_of_a_deep_silu_net_spread_as_measured():
    """Mean of 40 draws: the batch's variance of energies to 30 % (which scatters by 10 %), the last E[x²] to 1.5 %."""
    torch.manual_seed(0)
    shape = (8, 3, 4, 4)
    measured, last = [], []
    for _ in range(40):
        net = Net(nn.SiLU)
        for m in net.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight, std=m.weight[0].numel() ** -0.5)
        with torch.no_grad():
            y = net(torch.randn(shape))
        q = y.square().mean((1, 2, 3))
        measured.append(float((q / q.mean()).var(unbiased=False)))
        last.append(float(q.mean()))
    graph, flow = flow_of(Net(nn.SiLU), shape)
    out = flow.signals[graph.outputs[0]]
    assert float(energies(out).var(unbiased=False)) == pytest.approx(np.mean(measured), rel=0.3)
    assert out.average(out.second) == pytest.approx(np.mean(last), rel=0.015)
