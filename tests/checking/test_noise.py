"""Finite width: accumulated log variances against the exact law and against many draws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from stepzero.checking import check
from stepzero.checking._noise import accumulate, square_covariance
from stepzero.moments import propagate
from stepzero.network import capture
from stepzero.planning import plan


def relu_net(depth: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width, bias=False), nn.ReLU()]
    return nn.Sequential(*layers)


def flow_of(net: nn.Module, shape: tuple[int, ...]):
    weights = {
        name: (torch.zeros(()).double(), torch.tensor(2.0 / p.shape[1]).double()) for name, p in net.named_parameters()
    }
    return propagate(capture(net, shape), None, weights)


@pytest.mark.parametrize(("correlation", "expected"), [(0.0, 0.0), (1 / math.pi, 1.027), (1.0, 5.0)])
def test_the_square_covariance_of_relu_is_that_of_the_literature(correlation, expected):
    flow = flow_of(relu_net(1, 8), (1, 8))
    assert square_covariance(flow.signals[flow.graph.outputs[0]], correlation) == pytest.approx(expected, abs=2e-2)


def test_log_variance_of_a_relu_net_adds_five_over_n_a_layer():
    flow = flow_of(relu_net(6, 64), (1, 64))
    nodes = [n.id for n in flow.graph.nodes if n.op == "linear"]
    noise = accumulate(flow, dict.fromkeys(nodes, 1.0), dict.fromkeys(nodes, 64))
    before, after = noise[nodes[-1]]
    assert before == pytest.approx(5 * 5 / 64, rel=0.01)
    assert after - before == pytest.approx(2 / 64)


def test_normalisation_forgets_what_came_before():
    net = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 16))
    made = plan(net, (4, 16))
    assert check(net, (4, 16), made, draws=2, backward=False).rows[1].ratio == pytest.approx(1, rel=0.6)
    flow = flow_of(
        nn.Sequential(
            nn.Linear(16, 16, bias=False), nn.LayerNorm(16, elementwise_affine=False), nn.Linear(16, 16, bias=False)
        ),
        (4, 16),
    )
    nodes = [n.id for n in flow.graph.nodes if n.op == "linear"]
    assert accumulate(flow, dict.fromkeys(nodes, 1.0), dict.fromkeys(nodes, 16))[nodes[1]][0] == 0.0


def test_the_predicted_scatter_is_the_measured_one():
    """120 draws of width 32, depth 5: Var log q has relative sd sqrt(2/120) · (1 + excess) ≈ 0.15; 5 sigma."""
    net, x = relu_net(5, 32), torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
    made = plan(net, x)
    logs = []
    for seed in range(120):
        made.apply_(net, seed=seed)
        with torch.no_grad():
            logs.append(math.log(float(net[:-1](x).square().mean())))
    flow = flow_of(net, (1, 32))
    nodes = [n.id for n in flow.graph.nodes if n.op == "linear"]
    predicted = accumulate(flow, dict.fromkeys(nodes, 1.0), dict.fromkeys(nodes, 32))[nodes[-1]][1]
    measured = float(torch.tensor(logs).var())
    assert measured == pytest.approx(predicted, rel=5 * 0.15)
