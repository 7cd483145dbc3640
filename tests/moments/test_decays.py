"""Exponentials of what cannot be positive."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from stepzero.moments import propagate
from stepzero.network import capture


class Decay(nn.Module):
    """exp of a running sum of −a·softplus(z), with what lies above the diagonal masked out, as Mamba-2 writes it."""

    def __init__(self, heads, terms):
        super().__init__()
        self.register_buffer("rate", -torch.linspace(1.0, 4.0, heads))
        self.register_buffer("mask", ~torch.ones(terms, terms).tril().bool())

    def forward(self, x):
        steps = (F.softplus(x) * self.rate[:, None]).cumsum(-1)
        return torch.exp(steps[..., None].expand(*steps.shape, steps.shape[-1]).masked_fill(self.mask, -math.inf))


def decays(terms=6, heads=4):
    net = Decay(heads, terms)
    graph = capture(net, (2, heads, terms))
    flow = propagate(graph, {}, {}, on_unknown="error")
    return net, flow.signals[graph.outputs[0]]


def test_a_decay_is_bounded_and_close_to_what_is_drawn():
    net, y = decays()
    x = torch.randn(20000, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        drawn = net.double()(x)
    mean, second = (m.expand(y.shape)[0] for m in (y.mean, y.second))
    assert bool((second <= 1).all())
    assert bool((mean[:, 0, 1:] == 0).all())  # behind the mask
    for predicted, measured in ((mean, drawn.mean(0)), (second, drawn.square().mean(0))):
        step = predicted[:, 0, 0], measured[:, 0, 0]  # one step: the largest
        assert torch.allclose(*step, rtol=0.08, atol=0)
        assert torch.allclose(predicted, measured, rtol=0, atol=0.02)
