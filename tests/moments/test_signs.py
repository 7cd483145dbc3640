"""What can have one sign only."""

import pytest
import torch
import torch.nn.functional as F

from stepzero.moments._signs import sign
from stepzero.network import capture


class Written(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def last_less_each(x):
    total = (-F.softplus(x)).cumsum(-1)
    return total[..., -1:] - total


def first_less_each(x):
    total = (-F.softplus(x)).cumsum(-1)
    return total[..., :1] - total


EARLIER = torch.ones(6, 6).triu(1).bool()  # j > i


def between(x, columns=False):
    """S_i - S_j of a decay's running sum."""
    total = (-F.softplus(x)).cumsum(-1)
    return total[:, None] - total[..., None] if columns else total[..., None] - total[:, None]


CASES = {
    "softplus written out": (lambda x: torch.where(x > 20, x, (1 + x.exp()).log()), 1),
    "its decay": (lambda x: -torch.where(x > 20, x, (x.exp() + 1).log()), -1),
    "chosen below a number": (lambda x: torch.where(x < 20, x, x.exp()), 0),
    "a logarithm": (lambda x: (x.exp() + 0.5).log(), 0),
    "a signal": (lambda x: x * 2.0, 0),
    "softplus": (F.softplus, 1),
    "minus softplus": (lambda x: -F.softplus(x), -1),
    "a negative multiple": (lambda x: x.exp() * -3.0, -1),
    "a product of two": (lambda x: -x.exp() * F.softplus(x), -1),
    "a sum of two": (lambda x: x.exp() + F.softplus(x), 1),
    "a difference": (lambda x: x.exp() - F.softplus(x), 0),
    "a difference of opposites": (lambda x: -x.exp() - F.softplus(x), -1),
    "a sum with a negative number": (lambda x: x.exp() + -3.0, 0),
    "a mask of minus infinity": (lambda x: (-x.exp()).masked_fill(torch.eye(6).bool(), -torch.inf), -1),
    "a mask of one": (lambda x: (-x.exp()).masked_fill(torch.eye(6).bool(), 1.0), 0),
    "a clamp": (lambda x: x.clamp(min=0.1), 1),
    "a border of zeros": (lambda x: F.pad(-x.exp(), (1, 1)), -1),
    "a border of ones": (lambda x: F.pad(-x.exp(), (1, 1), value=1.0), 0),
    "the last of a running sum": (last_less_each, -1),
    "the first of a running sum": (first_less_each, 0),
    "terms between, all that run forward": (lambda x: between(x).masked_fill(EARLIER, -torch.inf), -1),
    "terms between, as columns": (lambda x: between(x, columns=True).masked_fill(EARLIER.T, -torch.inf), -1),
    "terms between, some that run back": (lambda x: between(x).masked_fill(EARLIER.T, -torch.inf), 0),
    "terms between, in both directions": (between, 0),
}


@pytest.mark.parametrize("name", CASES)
def test_a_sign_is_certain_only_where_it_is(name):
    function, expected = CASES[name]
    graph = capture(Written(function), (6, 6))
    assert sign(graph, graph.outputs[0]) == expected
