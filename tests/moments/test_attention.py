"""Attention: scores, softmax rows, mixtures of values, masks, and tokens looked up in a table."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.moments import propagate
from stepzero.network import capture
from stepzero.theory._softmax import concentration

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
# Averages over heads and rows; finite widths of 16 and 24 shift them (forward 5 %, pairs 6 %, changes 15 %).
LOOSE = dict.fromkeys(("near", "elsewhere", "across", "apart"), 0.06) | {"second": 0.05}
CHANGES = dict.fromkeys(("second", "near", "elsewhere", "across", "apart"), 0.15)


@pytest.mark.parametrize("name", KINDS)
def test_self_attention(hold, name):
    module = Attention(**KINDS[name])
    loose = LOOSE | (
        {"second": 0.08, "near": 0.1} if name in ("window", "additive mask", "causal", "written out") else {}
    )
    hold(
        module, (4, TOKENS, D), moments=TOKEN_MOMENTS, weight=(0.0, D**-0.5), draws=80, channel_last=True,
        loose=loose, loose_change=CHANGES,
    )  # fmt: skip


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
