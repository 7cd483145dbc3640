"""How a mean square scatters: against χ², against sums of weighted χ², and against layers that are drawn again and again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chi2, norm
from torch import nn

from stepzero.checking._spectrum import Scatter, scatter, z_of
from stepzero.moments import propagate, weight_sites
from stepzero.network import capture


@pytest.mark.parametrize("degrees", [3.0, 10.0, 300.0])
@pytest.mark.parametrize("ratio", [0.3, 0.8, 1.0, 1.0001, 1.3, 2.5])
def test_one_weight_is_a_chi_square(degrees, ratio):
    exact = norm.isf(chi2.sf(ratio * degrees, degrees)) if ratio > 1 else -norm.isf(chi2.cdf(ratio * degrees, degrees))
    assert z_of([ratio], [Scatter(np.ones(1), degrees)]) == pytest.approx(exact, abs=0.006)


def test_many_weights_have_the_tails_of_their_sum_and_not_of_a_chi_square_of_the_same_variance():
    weights, degrees = np.array([1.0, *[0.01] * 100]), 4.0
    rng = np.random.default_rng(0)
    sums = (rng.chisquare(degrees, (100_000, weights.size)) * weights).sum(1) / (degrees * weights.sum())
    law = Scatter(weights, degrees)
    assert law.variance == pytest.approx(sums.var(), rel=0.02)
    far = float(np.quantile(sums, 0.999))
    tail = norm.isf(1e-3)
    assert z_of([far], [law]) == pytest.approx(tail, abs=0.06)  # 0.03 is the quantile's standard error here
    satterthwaite = Scatter(np.ones(1), 2 / law.variance)
    assert z_of([far], [satterthwaite]) > tail + 0.2  # would call twice as many correct layers wrong


def test_the_mean_over_draws_scatters_less():
    law = Scatter(np.ones(1), 20.0)
    assert z_of([1.5] * 4, [law] * 4) == pytest.approx(z_of([1.5], [Scatter(np.ones(1), 80.0)]), abs=1e-9)
    assert z_of([0.0], [law]) == -np.inf


LAYERS = {
    "linear": (nn.Linear(12, 8, bias=False), (6, 12)),
    "1-d": (nn.Conv1d(3, 8, 3, padding=1, bias=False), (4, 3, 9)),
    "strided": (nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), (2, 3, 9, 9)),
    "grouped": (nn.Conv2d(8, 8, 3, groups=4, dilation=2, bias=False), (2, 8, 9, 9)),
    "depthwise": (nn.Conv2d(8, 8, 3, groups=8, padding=1, bias=False), (2, 8, 6, 6)),
    "transposed": (nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1, bias=False), (2, 6, 5, 5)),
    "transposed, grouped": (nn.ConvTranspose1d(6, 8, 4, stride=2, groups=2, bias=False), (2, 6, 7)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_law_of_a_layer_is_that_of_its_draws(name):
    layer, shape = LAYERS[name]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator) + 0.5 * torch.randn((1, *shape[1:]), generator=generator)
    unit = (torch.zeros(()).double(), torch.ones(()).double())
    flow = propagate(capture(layer, x), {"input": x}, {"weight": unit})
    ((node, _, axis),) = weight_sites(flow)
    law = scatter(flow, node, x, flow.graph.values[node.outputs[0]].shape[axis], centred=False)
    assert law is not None
    squares = []
    with torch.no_grad():
        for _ in range(2000):
            layer.weight.normal_(generator=generator)
            squares.append(float(layer(x).square().mean()))
    drawn = np.array(squares) / np.mean(squares)
    assert law.variance == pytest.approx(drawn.var(), rel=0.25)  # 5 standard errors of a variance at this kurtosis
    assert abs(np.mean([z_of([r], [law]) > 1.6449 for r in drawn]) - 0.05) < 0.025  # 5 standard errors of 5 %


def test_wide_layers_and_windows_that_do_not_fit_have_no_spectrum():
    layer, x = nn.Linear(4, 129, bias=False), torch.ones(2, 4)
    flow = propagate(capture(layer, x), None, {"weight": (torch.zeros(()).double(), torch.ones(()).double())})
    ((node, *_),) = weight_sites(flow)
    assert scatter(flow, node, x, 129, centred=False) is None
    assert scatter(flow, node, x * 0, 8, centred=False) is None
