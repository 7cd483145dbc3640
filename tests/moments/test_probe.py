"""Ops without a rule: measured on random tensors, let pass, or refused by name and place."""

import pytest
import torch
from torch import nn

from stepzero.errors import NoRuleError
from stepzero.moments import RULES, Moments, propagate
from stepzero.network import capture

ZERO, ONE = torch.tensor(0.0).double(), torch.tensor(1.0).double()


class Swirl(nn.Module):
    def forward(self, x):
        return torch.cumulative_trapezoid(x, dim=-1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(16, 16, bias=False)
        self.mixer = Swirl()

    def forward(self, x):
        return self.mixer(self.inner(x))


NET = Net()


def flow(**options):
    graph = capture(NET, (1024, 16))
    return graph, propagate(graph, {}, {"inner.weight": (ZERO, ONE / 16)}, **options)


def test_an_op_without_a_rule_is_measured_forward_and_backward():
    graph, result = flow()
    assert result.probed == ("cumulative_trapezoid (at mixer)",)
    assert result.second(graph.outputs[0]) == pytest.approx(7.5, rel=0.1)  # mean of 0.5 … 14.5
    (gradient,) = result.gradients().values()
    assert gradient == pytest.approx(7.5 * 15 / 16, rel=0.1)


def test_the_probe_is_repeatable_and_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    seconds = [result.second(graph.outputs[0]) for graph, result in (flow(), flow())]
    assert seconds[0] == seconds[1]
    assert torch.equal(before, torch.get_rng_state())


def test_it_may_pass_as_it_is():
    graph, result = flow(on_unknown="identity")
    assert result.second(graph.outputs[0]) == pytest.approx(1.0)
    assert (result.probed, result.passed) == ((), ("cumulative_trapezoid (at mixer)",))


def test_it_may_be_an_error_that_names_the_place_and_the_remedy():
    with pytest.raises(
        NoRuleError, match=r"cumulative_trapezoid \(at mixer\).*RULES \| \{'cumulative_trapezoid': my_rule\}"
    ):
        flow(on_unknown="error")


def test_a_rule_of_the_users_own_is_used():
    def cumulative_trapezoid(call):
        x = call.need("y")
        steps = torch.arange(0.5, 15.0).double()
        return type(x)(call.shape, x.roles, Moments(x.mean, *(t * steps for t in x.moments[1:])))

    graph, result = flow(rules=RULES | {"cumulative_trapezoid": cumulative_trapezoid}, on_unknown="error")
    assert result.second(graph.outputs[0]) == pytest.approx(7.5)
    assert result.probed == ()


def test_what_cannot_be_probed_passes_and_is_named_with_the_reason():
    class Sized(nn.Module):
        def forward(self, x):
            return torch.linalg.cholesky(x)

    graph = capture(Sized(), (4, 4))
    result = propagate(graph, {}, {})
    assert result.second(graph.outputs[0]) == pytest.approx(1.0)
    assert result.probed == ()
    (note,) = result.passed
    assert "cannot be probed" in note
    assert "linalg_cholesky" in note
