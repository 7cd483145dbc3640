"""einsum: a product of two tensors, or of one and a weight, written with letters."""

import pytest
import torch
from torch import nn

from stepzero.errors import NoRuleError
from stepzero.moments import Moments, Signal, kept_moments, propagate
from stepzero.moments import _roles as R
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


class Heads(nn.Module):
    """y_i = Σ_j≤i c_i·b_j e^(S_i - S_j) Δ_j x_j, S = -Σ AΔ, Δ = softplus(z + bias): heads as Mamba-2 writes them."""

    def __init__(self, heads=6, width=32, terms=8):
        super().__init__()
        self.steps = nn.Linear(width, heads, bias=False)
        self.bias = nn.Parameter(torch.tensor([-2.0, -0.5, -3.0, -5.0, -4.0, -1.0]))
        self.rate = nn.Parameter(torch.arange(1.0, heads + 1).log())
        self.register_buffer("below", torch.ones(terms, terms).tril(-1).bool())
        self.register_buffer("seen", torch.ones(terms, terms).tril().bool())

    def forward(self, x, z, b, c):
        steps = nn.functional.softplus(self.steps(z) + self.bias)
        a = (-self.rate.exp() * steps).transpose(1, 2)
        a = a[..., None].expand(*a.shape, a.shape[-1]).masked_fill(~self.below, 0.0).cumsum(-2)
        decay = a.masked_fill(~self.seen, -torch.inf).exp().permute(0, 2, 3, 1)
        scores = torch.einsum("bihn,bjhn->bijh", c, b) * decay
        return torch.einsum("bijh,bjhd->bihd", scores, x * steps[..., None])


SHAPES = (4, 8, 6, 8), (4, 8, 32), (4, 8, 6, 12), (4, 8, 6, 12)


def noise(shape):
    zero, one = (torch.full((1,) * len(shape), v, dtype=torch.float64) for v in (0.0, 1.0))
    roles = (R.single(shape[0], "batch"), R.single(shape[1], "position"), *R.same(shape[2:], "channel"))
    return Signal(shape, roles, Moments(zero, one, *(zero,) * 4))


def drawn(net, draws):
    """Measure E[y²] and the second moment of the steps' gradient for unit noise at the output."""
    rows, found = [], []
    net.steps.register_forward_hook(lambda _m, _i, y: found.append(y))
    for _ in range(draws):
        nn.init.normal_(net.steps.weight, 0.0, 32**-0.5)
        y = net(*(torch.randn(s) for s in SHAPES))
        (g,) = torch.autograd.grad(y, found[-1:], torch.randn_like(y))
        rows.append((float(y.detach().square().mean()), float(g.square().mean())))
    return torch.tensor(rows, dtype=torch.float64)


def test_heads_of_a_state_space_model_forget_at_a_pace_of_their_own():
    torch.set_num_threads(1)
    net = Heads()
    graph = capture(net, tuple(torch.zeros(s) for s in SHAPES))
    uses = graph.uses()
    law = torch.zeros((), dtype=torch.float64), torch.tensor(1 / 32, dtype=torch.float64)
    paces = {n: kept_moments(getattr(net, n), uses[graph.parameters[n]]) for n in ("bias", "rate")}
    white = {n: noise(graph.values[v].shape) for n, v in graph.inputs.items()}
    flow = propagate(graph, white, {"steps.weight": law, **paces}, on_unknown="error")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        rows = drawn(net, 250)
    second, gradient = rows.mean(0).tolist()
    (found,) = flow.gradients().values()
    assert flow.second(graph.outputs[0]) == pytest.approx(second, rel=0.1)  # four standard errors; 2.8 on averages
    assert gradient < found < 4.5 * gradient  # large steps are forgotten within a head, too; 23 on averages
