"""Running sums."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.moments import propagate
from stepzero.network import capture


class Running(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        return torch.cumsum(x, self.dim)


def test_a_running_sum_over_places(hold):
    loose = {"near": 0.12}  # the map's average counts the last place, which has no next one
    hold(Running(2), (2, 6, 12), draws=80, loose=loose, loose_change=loose)


def test_a_running_sum_over_channels(hold):
    hold(Running(1), (2, 12, 5), draws=80)


TERMS, PADDING = 8, 4


def padded(x):
    """Gated delta rules sum decays that padding fills up to a whole chunk."""
    return F.pad(-1.5 * F.softplus(x), (0, PADDING)).cumsum(-1)


def stretches(x):
    total = padded(x)
    return total.unsqueeze(-1) - total.unsqueeze(-2)


def decays(x):
    later = torch.ones(TERMS + PADDING, TERMS + PADDING).triu(1).bool()
    return stretches(x).masked_fill(later, -torch.inf).exp()


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("function", [padded, stretches, decays])
def test_running_sums_over_padding_and_what_lies_between_two_places(function):
    """Two places of a running sum have their first terms in common: S_i - S_j is no difference of strangers."""
    graph = capture(Of(function), (2, 4, TERMS))
    y = propagate(graph, {}, {}, on_unknown="error").signals[graph.outputs[0]]
    torch.manual_seed(11)
    drawn = function(torch.randn(20_000, TERMS, dtype=torch.float64)).square().mean(0)
    predicted = y.full(y.second)[0, 0]
    assert predicted.mean() == pytest.approx(float(drawn.mean()), rel=0.02)
    if function is decays:
        torch.testing.assert_close(predicted, drawn, rtol=0, atol=0.02)
    else:
        torch.testing.assert_close(predicted, drawn, rtol=0.04, atol=1e-12)
