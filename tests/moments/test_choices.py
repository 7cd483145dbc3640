"""Choices that depend on the signal itself."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.moments import propagate
from stepzero.network import capture


class Made(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def moments(function):
    graph = capture(Made(function), torch.randn(4, 16))
    flow = propagate(graph, {}, {}, on_unknown="error")
    return [float(t.detach().mean()) for t in flow.signals[graph.outputs[0]].moments]


CASES = {
    "softplus with a threshold": (
        lambda x: torch.where(x > 1.5, x, (1 + x.exp()).log()),
        lambda x: F.softplus(x, 1.0, 1.5),
    ),
    "a leaky ReLU": (lambda x: torch.where(x >= 0, x, x * 0.2), lambda x: F.leaky_relu(x, 0.2)),
    "a ReLU from below": (lambda x: torch.where(x < 0, torch.zeros_like(x), x), F.relu),
    "of what is computed": (
        lambda x: torch.where(x * 2.0 > 1.0, x * 3.0, x),
        lambda x: x + 2.0 * F.threshold(x, 0.5, 0.0),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_function_that_is_written_as_a_choice_has_the_moments_of_the_function(name):
    written, function = CASES[name]
    assert moments(written) == pytest.approx(moments(function), rel=1e-6, abs=1e-9)
