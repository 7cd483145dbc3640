"""Attention: scores, softmax rows, mixtures of values, masks, and tokens looked up in a table."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.moments import propagate
from stepzero.network import capture
from stepzero.theory._softmax import concentration, openness

D, HEADS, TOKENS = 64, 4, 24


class Attention(nn.Module):
    """Self-attention with its projections, so that keys and values share their input."""

    def __init__(self, fused=True, **options):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(D, D, bias=False) for _ in range(3))
        self.fused, self.options = fused, options

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (HEADS, D // HEADS)).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.fused:
            options = {
                n: t.to(x.dtype) if t is not True and t.is_floating_point() else t for n, t in self.options.items()
            }
            y = F.scaled_dot_product_attention(q, k, v, **options)
        else:
            y = ((q @ k.transpose(-2, -1)) * (D // HEADS) ** -0.5).softmax(-1) @ v
        return y.transpose(1, 2).flatten(2)


TOKEN_MOMENTS = (0.0, 1.0, 0.3, 0.3, 0.2, 0.2)
MASK = torch.ones(TOKENS, TOKENS).tril().bool() & ~torch.ones(TOKENS, TOKENS).tril(-6).bool()
KINDS = {
    "all keys": {"fused": True},
    "causal": {"is_causal": True},
    "window": {"attn_mask": MASK},
    "additive mask": {"attn_mask": torch.zeros(TOKENS, TOKENS).masked_fill(~MASK, -1e9)},
    "written out": {"fused": False},
}
# Averages over heads and rows; finite widths of 16 and 24 shift them (pairs 6 %, changes 15 %).
LOOSE = dict.fromkeys(("near", "elsewhere", "across", "apart"), 0.06) | {"second": 0.04}
CHANGES = dict.fromkeys(("second", "near", "elsewhere", "across", "apart"), 0.15)


@pytest.mark.parametrize("name", KINDS)
def test_self_attention(hold, name):
    hold(
        Attention(**KINDS[name]), (4, TOKENS, D), moments=TOKEN_MOMENTS, weight=(0.0, D**-0.5), draws=60,
        channel_last=True, loose=LOOSE | ({} if name == "all keys" else {"near": 0.1}),
        loose_change=CHANGES,
    )  # fmt: skip


def predicted(module, shape):
    """Second moment, pair moments and gradients, with LeCun weights."""
    graph = capture(module, shape)
    law = torch.tensor(0.0).double(), torch.tensor(1 / D).double()
    flow = propagate(graph, {}, dict.fromkeys(graph.parameters, law), on_unknown="error")
    y = flow.signals[graph.outputs[0]]
    return [*(float(t.mean()) for t in y.moments), *flow.gradients().values()]


def test_fused_and_written_out_attention_are_the_same():
    fused, written = (predicted(Attention(fused=f), (2, TOKENS, D)) for f in (True, False))
    assert written == pytest.approx(fused, rel=1e-6)


class Windows(nn.Module):
    """Attention within windows of an image, as Swin does it."""

    def __init__(self, side=4):
        super().__init__()
        self.side, self.attention = side, Attention()

    def forward(self, x):
        b, h, w, c = x.shape
        n = self.side
        y = F.layer_norm(x, [c]).view(b, h // n, n, w // n, n, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, n * n, c)
        y = self.attention(y).view(b, h // n, w // n, n, n, c)
        return y.permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)


def test_tokens_of_other_windows_share_nothing_new():
    torch.set_num_threads(1)
    torch.manual_seed(3)
    rows, module = [], Windows()
    for _ in range(60):
        with torch.no_grad():
            for p in module.parameters():
                p.normal_(0.0, D**-0.5)
            y = module(torch.randn(1, 12, 12, D))
        beside = ((y[:, 1:] * y[:, :-1]).mean() + (y[:, :, 1:] * y[:, :, :-1]).mean()) / 2
        others = (y.sum((1, 2)).square().mean() / 144 - y.square().mean()) / 143
        rows.append(torch.stack([y.square().mean(), beside, others]))
    samples = torch.stack(rows)
    _, second, near, elsewhere, *_ = predicted(Windows(), (1, 12, 12, D))
    error = 5 * samples.std(0) / 60**0.5 + torch.tensor([0.04, 0.06, 0.06]) * torch.tensor([second, near, elsewhere])
    assert bool(((samples.mean(0) - torch.tensor([second, near, elsewhere])).abs() <= error).all())


@pytest.mark.parametrize(("terms", "variance"), [(2, 1.0), (49, 1.0), (8, 4.0), (64, 9.0)])
def test_what_a_softmax_row_lets_through(terms, variance):
    generator = np.random.default_rng(6)
    logits = generator.normal(size=(40_000, terms)) * math.sqrt(variance)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    passed = (p**2 * (1 - 2 * p + (p**2).sum(1, keepdims=True))).sum(1)
    assert abs(passed.mean() - openness(np.array([terms]), variance).jacobian[0]) <= 5 * passed.std() / 200


def test_rotary_tables_without_numbers_keep_the_second_moment():
    class Rotary(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = nn.Linear(D, D, bias=False)
            self.register_buffer("frequencies", torch.empty(D // 2, device="meta"))

        def forward(self, x):
            phases = torch.arange(x.shape[1]).to(x.device)[:, None] * self.frequencies
            cos, sin = (torch.cat([f(phases)] * 2, -1) for f in (torch.cos, torch.sin))
            q = self.q(x)
            return q * cos + torch.cat([-q[..., D // 2 :], q[..., : D // 2]], -1) * sin

    assert predicted(Rotary().to("meta"), (2, TOKENS, D))[1] == pytest.approx(1.0)


@pytest.mark.parametrize(("terms", "variance"), [(2, 1.0), (16, 0.01), (8, 4.0), (64, 9.0)])
def test_the_concentration_of_softmax_rows(terms, variance):
    generator = np.random.default_rng(5)
    logits = generator.normal(size=(40_000, terms)) * math.sqrt(variance)
    p = np.exp(logits - logits.max(1, keepdims=True))
    squares = ((p / p.sum(1, keepdims=True)) ** 2).sum(1)
    assert abs(squares.mean() - concentration(terms, variance)) <= 5 * squares.std() / 200


def test_a_row_of_equal_logits_is_uniform_and_a_row_of_one_certain():
    assert concentration(10, 0.0) == 0.1
    assert concentration(1, 3.0) == 1.0


@pytest.mark.parametrize("op", ["matmul", "bmm"])
def test_products_of_two_signals_add_along_channels(op):
    class Product(nn.Module):
        def forward(self, a, b):
            return getattr(torch, op)(a, b.transpose(1, 2))

    graph = capture(Product(), (torch.zeros(2, 8, 32), torch.zeros(2, 8, 32)))
    flow = propagate(graph, {}, {}, on_unknown="error")
    assert flow.second(graph.outputs[0]) == pytest.approx(32.0)


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(50, 16), nn.Linear(16, 16, bias=False)

    def forward(self, ids):
        return self.out(self.table(ids))


def test_equal_tokens_are_equal_rows():
    one, zero = torch.tensor(1.0).double(), torch.tensor(0.0).double()
    for ids, pair in ((torch.zeros(2, 6, dtype=torch.long), 2.0), (torch.arange(12).reshape(2, 6), 0.0)):
        graph = capture(Table(), (ids,))
        flow = propagate(
            graph, {}, {"table.weight": (zero, 2 * one), "out.weight": (zero, one / 16)}, on_unknown="error"
        )
        y = flow.signals[graph.outputs[0]]
        assert float(y.second.mean()) == pytest.approx(2.0)
        assert float(y.elsewhere.mean()) == pytest.approx(pair)


def test_position_biases_are_looked_up():
    class Bias(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.zeros(5, 2))
            self.register_buffer("places", torch.tensor([[0, 1], [2, 3]]))

        def forward(self, x):
            return x + self.table[self.places].permute(2, 0, 1)

    graph = capture(Bias(), (3, 2, 2, 2))
    flow = propagate(graph, {}, {"table": (torch.tensor(0.0).double(), torch.tensor(0.5).double())}, on_unknown="error")
    assert flow.second(graph.outputs[0]) == pytest.approx(1.5)
