"""Values in order, all of them or the first."""

import pytest
import torch
from torch import nn

WHITE = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
ALIKE = (0.4, 1.4, 0.6, 0.6, 0.5, 0.4)


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def near(*names, within=0.03):
    return dict.fromkeys(names, within)


@pytest.mark.parametrize("function", [
    lambda x: x.topk(3, 1).values, lambda x: x.topk(2, 1, largest=False).values, lambda x: x.sort(1).values,
    lambda x: x.relu().topk(4, 1).values,
])  # fmt: skip
def test_values_in_order_along_channels(hold, function):
    hold(
        Of(function), (3, 16, 6), moments=WHITE, loose=near("mean", "second", "across", "near", "elsewhere", "apart"),
        loose_change=near("across", "near", "elsewhere", "apart", within=0.15) | near("second", within=0.05),
    )  # fmt: skip


def test_values_in_order_along_places(hold):
    names = "mean", "second", "across", "near", "elsewhere", "apart"
    hold(
        Of(lambda x: x.sort(2, descending=True).values), (3, 8, 12), moments=ALIKE,
        loose=near(*names), loose_change=near("across", "near", "elsewhere", "apart", within=0.1),
    )  # fmt: skip


def test_every_rank_has_its_own_moments():
    from stepzero.moments import propagate
    from stepzero.network import capture

    graph = capture(Of(lambda x: x.sort(1).values), (4, 8))
    y = propagate(graph, {}, {}, on_unknown="error").signals[graph.outputs[0]]
    torch.manual_seed(0)
    values = torch.randn(40000, 8).sort(1).values.double()
    assert torch.allclose(y.mean.expand(4, 8)[0], values.mean(0), atol=0.03)
    assert torch.allclose(y.second.expand(4, 8)[0], values.square().mean(0), atol=0.05)


def test_the_first_shares_of_a_softmax_are_taken_as_log_normal(hold):
    names = "mean", "second", "across", "near", "elsewhere", "apart"
    hold(
        Of(lambda x: x.softmax(1).topk(2, 1).values), (64, 8), moments=WHITE, loose=near(*names, within=0.1),
        loose_change=near("second", "across", within=0.6),
    )  # fmt: skip
