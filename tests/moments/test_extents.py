"""Lengths, variances and the largest of a set."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.moments import propagate
from stepzero.network import capture

CORRELATED = (0.0, 1.3, 0.5, 0.5, 0.4, 0.2)


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_the_largest_of_places(hold):
    pairs = dict.fromkeys(("near", "elsewhere", "across", "apart"), 0.03)
    hold(
        Of(lambda x: x.amax(2)),
        (2, 8, 20),
        moments=CORRELATED,
        draws=120,
        loose=pairs | {"second": 0.01},
        loose_change=pairs,
    )


def test_the_largest_of_channels(hold):
    pairs = dict.fromkeys(("near", "elsewhere", "across", "apart"), 0.1)
    hold(
        Of(lambda x: x.amax(1)),
        (2, 12, 9),
        moments=(0.0, 1.0, 0, 0, 0, 0),
        draws=80,
        loose=pairs | {"second": 0.01},
        loose_change=pairs | {"second": 0.01},
    )


def second(function, shape=(4, 16, 30)):
    graph = capture(Of(function), shape)
    flow = propagate(graph, {}, {}, on_unknown="error")
    torch.manual_seed(2)
    with torch.no_grad():
        measured = torch.stack([function(torch.randn(shape).double()).square().mean() for _ in range(100)])
    return flow.second(graph.outputs[0]), measured


@pytest.mark.parametrize("count", [4, 64])
def test_the_largest_behind_a_relu(count):
    predicted, measured = second(lambda x: F.relu(x).amax(2), (4, 16, count))
    assert predicted == pytest.approx(float(measured.mean()), rel=0.02)


def test_the_smallest_is_the_largest_turned_over():
    assert second(lambda x: x.amin(2))[0] == pytest.approx(second(lambda x: x.amax(2))[0])


def test_unit_vectors_have_unit_length():
    predicted, measured = second(lambda x: F.normalize(x, dim=2))
    assert predicted == pytest.approx(1 / 30)
    assert float(measured.mean()) == pytest.approx(1 / 30)


def test_a_variance_is_what_members_do_not_share():
    predicted, measured = second(lambda x: x / (x.var(2, keepdim=True) + 1e-5).sqrt())
    assert predicted == pytest.approx(float(measured.mean()), rel=0.08)  # E[1/v] of 29 degrees of freedom is 29/27


def test_other_lengths_are_measured():
    graph = capture(Of(lambda x: torch.linalg.vector_norm(x, 1, dim=2)), (4, 16, 30))
    flow = propagate(graph, {}, {})
    assert flow.probed == ("linalg_vector_norm (at the model's root)",)
    assert flow.second(graph.outputs[0]) == pytest.approx((30 * (2 / torch.pi) ** 0.5) ** 2, rel=0.1)


def test_what_a_mask_hides_is_never_the_largest():
    """Running maxima, as xLSTM stabilises its gates: the first row has one member, the last one all."""
    seen = torch.ones(12, 12, dtype=torch.bool).tril()
    graph = capture(Of(lambda x: x.masked_fill(~seen, -torch.inf).amax(-1)), (2, 3, 12, 12))
    predicted = propagate(graph, {}, {}, on_unknown="error").signals[graph.outputs[0]].second
    torch.manual_seed(3)
    drawn = torch.randn(20_000, 12, 12).masked_fill(~seen, -torch.inf).amax(-1).square().mean(0)
    torch.testing.assert_close(predicted.reshape(-1, 12)[0], drawn.double(), rtol=0.05, atol=0.0)


def test_the_largest_of_none_is_minus_infinity():
    seen = torch.tensor([[True, True], [False, False]])
    graph = capture(Of(lambda x: torch.exp(x.masked_fill(~seen, -torch.inf).amax(-1))), (2, 3, 2, 2))
    y = propagate(graph, {}, {}, on_unknown="error").signals[graph.outputs[0]]
    rows = y.full(y.second)[0, 0]
    assert torch.isfinite(rows[0])
    assert rows[1] == 0.0


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_logarithm_of_a_sum_of_exponentials(hold, scale):
    hold(
        Of(lambda x: torch.logsumexp(scale * x, 1)), (3, 24, 6), moments=(0.0, 1.0, 0, 0, 0, 0), draws=60,
        loose_change=dict.fromkeys(("near", "elsewhere", "across", "apart"), 0.2),
    )  # fmt: skip


def test_max_of_two_tensors_is_the_larger_one():
    for function in (lambda x: torch.max(x, x.flip(1) * 2), lambda x: torch.min(x, torch.tensor(0.3))):
        predicted, found = second(function)
        assert predicted == pytest.approx(float(found.mean()), rel=0.02)
