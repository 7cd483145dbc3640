"""Attention: queries are found in whatever order they are packed, and what mixes shares hands them on."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stepzero import check
from stepzero.errors import PlanError
from stepzero.laws import Constant
from stepzero.planning import plan

WIDTH, HEADS = 32, 4
SIZE = WIDTH // HEADS
Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Attention(nn.Module):
    """Packed queries, keys and values, cut as `cut` says; the scores by `mix`."""

    def __init__(self, cut: Callable[[torch.Tensor], Tensors], mix: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.packed, self.cut, self.mix = nn.Linear(WIDTH, 3 * WIDTH), cut, mix
        self.heads = nn.Linear(HEADS, HEADS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(*self.cut(self.packed(x))).transpose(1, 2).flatten(2)


def rows_of_parts(y: torch.Tensor) -> Tensors:
    """ViT: all queries, all keys, all values."""
    return y.reshape(*y.shape[:2], 3, HEADS, SIZE).permute(2, 0, 3, 1, 4).unbind(0)


def rows_of_heads(y: torch.Tensor) -> Tensors:
    """GPT-NeoX: query, key and value of one head after the other."""
    return y.view(*y.shape[:2], HEADS, 3 * SIZE).transpose(1, 2).chunk(3, dim=-1)


def turned(y: torch.Tensor) -> Tensors:
    """Rotated by position, as Su et al. 2021 do."""
    q, k, v = rows_of_parts(y)
    angle = torch.arange(y.shape[1])[:, None] * torch.ones(SIZE)
    return *(t * angle.cos() + torch.cat([-t[..., SIZE // 2 :], t[..., : SIZE // 2]], -1) * angle.sin() for t in (q, k)), v  # fmt: skip


def written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.softmax((q * SIZE**-0.5) @ k.transpose(-2, -1) + torch.zeros(1), -1) @ v


FUSED = F.scaled_dot_product_attention
HEADWISE = [(start, start + SIZE) for start in range(0, 3 * WIDTH, 3 * SIZE)]


@pytest.mark.parametrize(
    ("cut", "mix", "rows"),
    [
        (rows_of_parts, FUSED, [(0, WIDTH)]),
        (rows_of_parts, written_out, [(0, WIDTH)]),
        (rows_of_heads, FUSED, HEADWISE),
        (rows_of_heads, written_out, HEADWISE),
        (turned, FUSED, [(0, WIDTH)]),
    ],
)
def test_the_rows_of_queries_alone_get_their_level(cut, mix, rows):
    net = Attention(cut, mix)
    made = plan(net, (4, 6, WIDTH), policies=["queries:level=0.25"])
    second = torch.from_numpy(made["packed.weight"].law.moments((3 * WIDTH, WIDTH))[1])[:, 0] * WIDTH
    expected = torch.ones(3 * WIDTH, dtype=torch.float64)
    for start, stop in rows:
        expected[start:stop] = 0.25
    assert torch.allclose(second.expand(3 * WIDTH), expected)
    assert "queries of second moment 0.25 beside keys of 1" in made.why("packed.weight")


def test_the_packed_plan_is_drawn_and_holds():
    torch.manual_seed(0)
    net, x = Attention(rows_of_heads, FUSED), torch.randn(64, 16, WIDTH)
    made = plan(net, x, policies=["queries:level=0.25"])
    made.apply_(net, seed=1)
    assert check(net, x, made).ok
    q, k, _ = rows_of_heads(net.packed(x).detach())
    assert float(q.square().mean()) == pytest.approx(0.25, rel=0.2)  # 5 sigma of 32 × 32 weights
    assert float(k.square().mean()) == pytest.approx(1.0, rel=0.2)


def test_queries_with_a_weight_of_their_own_may_start_at_zero():
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return FUSED(self.q(x), self.k(x), self.v(x))

    made = plan(Apart(), (2, 6, WIDTH), policies=["queries:level=0"])
    assert made["q.weight"].law == Constant(0.0)
    assert made["k.weight"].second_moment == pytest.approx(1.0)


def test_normalised_queries_have_no_scale_to_choose():
    def normed(y: torch.Tensor) -> Tensors:
        q, k, v = rows_of_parts(y)
        return F.layer_norm(q, (SIZE,)), F.layer_norm(k, (SIZE,)), v

    with pytest.raises(PlanError, match="finds nothing in this model"):
        plan(Attention(normed, FUSED), (2, 6, WIDTH), policies=["queries:level=0.25"])


def test_heads_that_share_their_shares_keep_them():
    def talking(net: Attention, x: torch.Tensor) -> torch.Tensor:
        q, k, v = rows_of_parts(net.packed(x))
        shares = torch.softmax(q @ k.transpose(-2, -1), -1)
        return net.heads(shares.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) @ v

    net = Attention(rows_of_parts, FUSED)
    net.forward = talking.__get__(net)
    made = plan(net, (2, 16, WIDTH))
    assert made["heads.weight"].law.std == pytest.approx(1 / math.sqrt(HEADS))
    assert "shares:kept" in made.why("heads.weight")


def test_a_weight_that_reads_a_small_table_alone_is_not_blown_up():
    class Relative(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.read, self.out = nn.Parameter(torch.full((6, WIDTH), 0.02)), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)  # fmt: skip

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(x + self.read(self.table))

    made = plan(Relative(), (2, 6, WIDTH))
    assert made["read.weight"].law.std == pytest.approx(1 / math.sqrt(WIDTH))
    assert "a learned table alone" in made.why("read.weight")
