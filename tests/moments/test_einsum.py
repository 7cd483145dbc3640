"""einsum: a product of two tensors, or of one and a weight, written with letters."""

import pytest
import torch
from torch import nn

from stepzero.errors import NoRuleError
from stepzero.moments import propagate
from stepzero.network import capture


class Sum(nn.Module):
    """One einsum of two inputs, or of an input and a weight."""

    def __init__(self, equation, weight=None):
        super().__init__()
        self.equation, self.weight = equation, None if weight is None else nn.Parameter(torch.ones(weight))

    def forward(self, a, b=None):
        return torch.einsum(self.equation, a, self.weight if b is None else b)


def test_scores_add_along_channels(hold):
    hold(
        Sum("bic,bjc->bij"), (2, 12, 32), (2, 12, 32), moments=(0.0, 1.3, 0.5, 0.5, 0.4, 0.2), channel_last=True,
        loose=dict.fromkeys(("near", "elsewhere", "apart", "across"), 0.15), loose_change=dict.fromkeys(("near", "elsewhere", "apart", "across"), 0.25),
    )  # fmt: skip


def test_a_weight_keeps_what_places_share(hold):
    hold(Sum("bnc,cd->bnd", (16, 24)), (2, 6, 16), channel_last=True)


def test_a_weight_may_have_several_summed_axes(hold):
    hold(Sum("bnhc,hcd->bnd", (4, 8, 24)), (2, 6, 4, 8), moments=(0.0, 1.0, 0.0, 0.0, 0.0, 0.0), channel_last=True)


def test_attention_by_einsum_is_attention_by_matmul():
    class Written(nn.Module):
        def __init__(self, letters):
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(32, 32, bias=False) for _ in range(3))
            self.letters = letters

        def forward(self, x):
            q, k, v = (f(x) for f in (self.q, self.k, self.v))
            if not self.letters:
                return (q @ k.transpose(1, 2) * 32**-0.5).softmax(-1) @ v
            rows = (torch.einsum("bic,bjc->bij", q, k) * 32**-0.5).softmax(-1)
            return torch.einsum("bij,bjd->bid", rows, v)

    seconds = []
    for letters in (False, True):
        graph = capture(Written(letters), (2, 10, 32))
        law = torch.tensor(0.0).double(), torch.tensor(1 / 32).double()
        flow = propagate(graph, {}, dict.fromkeys(graph.parameters, law), on_unknown="error")
        seconds.append((flow.second(graph.outputs[0]), *flow.gradients().values()))
    assert seconds[1] == pytest.approx(seconds[0])


@pytest.mark.parametrize("equation", ["bij->bi", "bij,bkj,bkj->bik", "bij,bkl->bik"])
def test_what_is_no_plain_product_is_refused_by_name(equation):
    class Plain(nn.Module):
        def forward(self, x):
            return torch.einsum(equation, *[x] * (equation.count(",") + 1))

    graph = capture(Plain(), (2, 3, 3))
    with pytest.raises(NoRuleError, match=r"einsum .* is no plain product"):
        propagate(graph, {}, {}, on_unknown="error")
