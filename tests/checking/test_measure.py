"""What one real run measures: second moments, gradients, and how alike sites and inputs are, each against numbers by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stepzero.checking._check import _site
from stepzero.checking._measure import _alike, measure
from stepzero.errors import CheckError
from stepzero.moments import propagate, weight_sites
from stepzero.network import ModelInputs, capture, leaves


def read(net: nn.Module, x: torch.Tensor, *, backward: bool = True):
    """Return the readings of each weight op in order, and the outputs."""
    call = ModelInputs.of(x, net)
    graph = capture(net, call)
    moments = {n: (p.detach().double().mean(), p.detach().double().square().mean()) for n, p in net.named_parameters()}
    flow = propagate(graph, {}, moments)
    sites = [_site(flow, *found) for found in weight_sites(flow)]
    generator = torch.Generator().manual_seed(0)
    readings, outputs = measure(graph, leaves(graph, net, call), sites, backward=backward, generator=generator)
    return [readings[site.node.id] for site in sites], outputs


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_second_moments_and_gradients_are_those_of_autograd():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), numbers(3, 6)
    (first, last), outputs = read(net, x)
    hidden = net[0](x).detach().requires_grad_()
    y = net[2](torch.tanh(hidden))
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    (y * noise).sum().backward()
    assert torch.equal(outputs[0], y.detach())
    assert first.second == pytest.approx(float(hidden.detach().double().square().mean()))
    assert first.gradient == pytest.approx(float(hidden.grad.double().square().mean()))
    assert last.gradient == pytest.approx(float(noise.double().square().mean()))
    assert torch.allclose(last.input_map, torch.tanh(hidden.detach()).double().square().mean(0, keepdim=True))


def test_without_backward_no_gradient_is_read_and_the_model_has_none():
    net = nn.Sequential(nn.Linear(6, 4))
    (only,), _ = read(net, numbers(3, 6), backward=False)
    assert only.gradient is None
    read(net, numbers(3, 6))
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(("sign", "spread"), [(1.0, 0.0), (-1.0, 2.0)])
def test_equal_inputs_have_no_spread_and_opposite_ones_twice_the_second_moment(sign, spread):
    x = numbers(1, 6)
    (only,), _ = read(nn.Linear(6, 50, bias=False), torch.cat([x, sign * x]))
    assert only.spread == pytest.approx(spread, abs=1e-6)
    (single,), _ = read(nn.Linear(6, 50, bias=False), x)
    assert single.spread is None


def test_sites_that_agree_are_wholly_alike_and_white_ones_as_little_as_their_number_allows():
    channel = numbers(400, 1).double()
    assert _alike(channel.expand(400, 8)) == pytest.approx(1.0, rel=0.2)  # 5 sigma of 400 channels
    assert _alike(numbers(4000, 16).double()) == pytest.approx(1 / 16, rel=0.2)
    assert _alike(numbers(1, 16).double()) == 1.0  # one channel tells nothing


def test_a_signal_that_is_not_finite_is_named_with_its_place():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        net[1].weight[0, 0] = torch.nan
    with pytest.raises(CheckError, match=r"linear \(at 1\) puts out values that are not finite"):
        read(net, numbers(2, 4))
