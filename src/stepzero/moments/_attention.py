"""Rules for attention: scores, softmax rows, value mixing, and tokens looked up in a table.

Scores of random queries and keys are Gaussian with a variance τ² within each row; a softmax row of T of them has
E[Σ p²] = S(T, τ²), and mixing values of second moment q and pair moment e puts out e + (q - e)·S: what tokens share
survives, what is private is averaged (THEORY: rank collapse, Dong et al. 2021, arXiv:2103.03404).

Keys and values that one input x of width d makes add a tilt: a query picks the tokens that point along it, so the
mixture moves by Cov_p(k, v), whose second moment is τ²/d per unit of (q - e); a change of the query meets the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule, tensor64
from stepzero.moments._covariances import FLAT, agreement, covariance_attention, covariance_mixture, mixes_channels
from stepzero.moments._joins import summed
from stepzero.moments._paths import CARRIES, shared_width, upstream
from stepzero.moments._rows import Rows, mixed, per_row, within
from stepzero.moments._signal import Moments, Signal, ranked
from stepzero.network import Node

SOFTMAX = frozenset(("softmax", "_softmax"))
TURNS = frozenset(("transpose", "permute", "mT", "t", "swapaxes"))
HIDDEN = -20.0  # an additive mask below this hides a key
SCORES = frozenset(("matmul", "bmm", "baddbmm", "einsum"))
_SCALED = "add sub mul div masked_fill where to _to_copy clone contiguous alias view reshape unsqueeze squeeze maximum type_as"
SCALED = frozenset(_SCALED.split())  # what stands between scores and softmax


def attention(call: Call) -> Signal:
    """softmax(q·kᵀ·scale + mask)·v on averages over heads and tokens, row by row where a mask makes rows differ.

    Tokens of one window share what lies between `near` and `elsewhere`. Masks that depend on data count as absent.
    """
    q, k, v = (call.operand(name) for name in ("query", "key", "value"))
    if mixes_channels(v) and mixes_channels(q):
        return covariance_attention(call, q, k, v)
    scores = _Scores.of(call, q, k)
    rows = Rows.of(_seen(call, q.shape[-2], k.shape[-2]), scores.private, _alike(q), q.shape[-1])
    tilt = _tilt(call, call.node.arguments["key"].id, call.node.arguments["value"].id)
    keep = 1.0 - float(call.argument("dropout_p") or 0.0)
    m = mixed(v, v.moments, rows, tilt * rows.variance, keep)
    changes = [None if v.tangent is None else mixed(v, v.tangent, rows, 0.0, keep)]
    changes += _through_scores(q, k, v, rows, scores.scale, tilt, keep)
    roles = (*q.roles[:-1], R.single(call.shape[-1], "channel"))
    return Signal(call.shape, roles, m, summed([(c, 1.0) for c in changes]))


@dataclass(frozen=True)
class _Scores:
    """Second moments of scores: their factor, and their variance within a row."""

    scale: float  # second moment per unit of E[q²]·E[k²]
    private: Tensor  # one number, or one for each query

    @classmethod
    def of(cls, call: Call, q: Signal, k: Signal) -> _Scores:
        width = q.shape[-1]
        given = call.argument("scale")
        scale = width * (1.0 / width if given is None else float(given) ** 2)
        bias = call.signal("attn_mask")
        extra = 0.0 if bias is None else _of_visible(bias, bias.mean**2)  # a position bias; masks have none
        private = by_token(q, q.second) * k.average(k.second - within(k, k.moments))
        return cls(scale, (scale * private).flatten().clamp_min(0.0) + extra)


def _of_visible(x: Signal, pair: Tensor) -> float:
    """The variance of logits beyond what they share, where no mask hides them."""
    private, mean = torch.broadcast_tensors(x.second - pair, x.mean)
    seen = private[mean > HIDDEN]
    return max(0.0, float(seen.mean())) if seen.numel() else 0.0


def by_token(x: Signal, t: Tensor) -> Tensor:
    """Average a lean tensor over all but its next to last axis, which stays lean."""
    t = ranked(t, len(x.shape))
    return t.mean(dim=[d for d in range(t.dim()) if d != t.dim() - 2], keepdim=True)


def _through_scores(
    q: Signal, k: Signal, v: Signal, rows: Rows, scale: float, tilt: float, keep: float
) -> list[Moments | None]:
    """What small changes of queries and keys make of the mixture: Cov_p(δ, v), row by row.

    A query's change moves its own row; a key's moves all rows, in step as far as queries are alike.
    """
    rank, spread = len(v.shape), v.average(v.second - within(v, v.moments)) / keep
    passing = per_row(rows.jacobian, rank) * spread
    paired = passing * per_row(rows.far / rows.own, rank)
    changes: list[Moments | None] = []
    if q.tangent is not None:
        c, gain = q.tangent, scale * max(0.0, k.average(k.second - within(k, k.moments)))
        own, other = gain * (passing + tilt * spread), gain * (paired + tilt * spread)
        changes.append(_change(by_token(q, c.second) * own, within(q, c).mean() * other))
    if k.tangent is not None:
        c = k.tangent
        private, alike = (c.second - within(k, c)).mean() * scale, q.average(within(q, q.moments))
        changes.append(_change(private * (passing * by_token(q, q.second)), private * (paired * alike)))
    return changes


def _change(second: Tensor, pair: Tensor) -> Moments:
    nothing = tensor64(0.0)
    return Moments(nothing, second, pair, pair, nothing, nothing)


def _alike(q: Signal) -> tuple[float, float]:
    """The correlation of the scores of two queries: any two, neighbours."""
    m, second = q.moments, q.average(q.second)
    pairs = (q.average(within(q, m)), q.average(m.near))
    far, near = (min(max(t / second, 0.0), 1.0) if second else 0.0 for t in pairs)
    return far, near


def _tilt(call: Call, key: int, value: int) -> float:
    """1/d if keys and values are made from one input of width d, else 0."""
    width = shared_width(call.graph, key, value)
    return 1.0 / width if width else 0.0


def _seen(call: Call, queries: int, keys: int) -> Tensor:
    """Which keys each query sees, shape (queries, keys); masks that differ between heads or inputs are averaged."""
    if call.argument("is_causal"):
        return torch.ones(queries, keys, dtype=torch.float64).tril()
    mask, bias = call.node.arguments.get("attn_mask"), call.signal("attn_mask")
    known = call.graph.values[mask.id].known if mask is not None else None
    if bias is not None:
        known = ranked(bias.mean, 2)
    if known is None:
        return torch.ones(1, keys, dtype=torch.float64)
    return _shown(known, queries, keys)


def _shown(mask: Tensor, queries: int, keys: int) -> Tensor:
    """Average a mask, boolean or additive, over all but its last two axes; one row where all rows see all keys."""
    seen: Tensor = (mask if mask.dtype == torch.bool else mask > HIDDEN).double()
    seen = seen.reshape(-1, *seen.shape[-2:]).mean(0)
    rows = 1 if seen.shape[0] == 1 or bool((seen == seen[:1]).all()) else queries
    return seen[:rows].expand(rows, keys)


def softmax(call: Call) -> Signal:
    """A softmax along one axis: rows of mean 1/T; `near` holds pairs within a row, as matmul leaves them.

    A change δ of the logits gives p(δ - Σ pδ), whose second moment is E[p²(1 - 2p + Σp²)] times that of δ's private
    part. Where the logits are scores, their width and their queries' correlation say how rows scatter and agree.
    Logits of different channels (selective kernels, Li et al. 2019, arXiv:1903.06586) share their mean alone.
    """
    x = call.operand(call.main)
    rank, m = len(x.shape), x.moments
    d = int(call.argument("dim")) % rank
    terms, channels = x.shape[d], R.is_all(x.roles[d], "channel")
    width, alike, sharper = _of_scores(call, x)
    if R.is_all(x.roles[d], "channel") and R.is_all(x.roles[-2], "channel"):
        width, alike, sharper = FLAT, agreement(x.moments), torch.ones_like(sharper[:1])
    rows = Rows.of(_visible(x, d), _of_visible(x, m.mean**2 if channels else m.near) * sharper, alike, width)
    share, even = (float(t.mean()) for t in (rows.own, rows.far))
    one, others = tensor64(1.0 / terms).reshape((1,) * rank), max(terms - 1, 1)
    pair = one * even
    y = Moments(one, one * share, one * (1 - share) / others, pair, pair, pair)
    change = None
    if x.tangent is not None:
        common = 0.0 if channels else x.tangent.near.mean()
        private = (x.tangent.second.mean() - common) * float(rows.jacobian.mean()) / terms
        private = private.reshape((1,) * rank)
        nothing = torch.zeros_like(private)
        change = Moments(nothing, private, -private / others, *(nothing,) * 3)
    return Signal(x.shape, x.roles, y, change, rows=rows if d == rank - 1 else None, centred=channels)


def _of_scores(call: Call, x: Signal) -> tuple[int, tuple[float, float], Tensor]:
    """The queries' width, correlations and shares of E[q²], if the logits are products of queries and keys."""
    node = upstream(call.graph, call.node.inputs[0], SCORES, SCALED)
    q = None if node is None else call.signals.get(node.inputs[-2])
    if q is None or not q.read:
        return FLAT, (0.0, 0.0), torch.ones(1, dtype=torch.float64)
    own = by_token(q, q.second).flatten()
    return (
        q.shape[-1],
        _alike(q),
        own / own.mean().clamp_min(1e-300) if len(own) == x.shape[-2] else torch.ones_like(own[:1]),
    )


def _visible(x: Signal, d: int) -> Tensor:
    """Which logits of each row no additive mask hides."""
    mean = ranked(x.mean, len(x.shape)).movedim(d, -1)
    if mean.shape[-1] == 1 or not bool((mean < HIDDEN).any()):
        return torch.ones(1, x.shape[d], dtype=torch.float64)
    queries = mean.shape[-2] if mean.dim() > 1 else 1
    return _shown(mean.reshape(-1, queries, mean.shape[-1]), queries, x.shape[d])


def mixture(call: Call, a: Signal, b: Signal, change: Moments | None) -> tuple[Moments, Moments | None] | None:
    """Return the moments of rows·values if the left operand is a softmax (behind dropout and views), else None.

    Args:
        call: A matrix product.
        a: Its left operand.
        b: Its right operand, the values.
        change: Moments of the small change that the left operand's own change makes.
    """
    left, right = call.node.inputs[-2:]
    node = upstream(call.graph, left, SOFTMAX, CARRIES)
    weights = None if node is None else call.signals.get(node.outputs[0])
    if node is None or weights is None or weights.rows is None or weights.shape[-1] != a.shape[-1]:
        return None
    return _mixture(call, node, weights, (a, b), right, change)


def turned_mixture(call: Call, a: Signal, b: Signal, change: Moments | None) -> tuple[Moments, Moments | None] | None:
    """Return the same for values·rowsᵀ: the right operand is a transposed softmax."""
    left, right = call.node.inputs[-2:]
    turn = call.graph.producer(right)
    if turn is None or turn.op not in TURNS:
        return None
    node = upstream(call.graph, turn.inputs[0], SOFTMAX, CARRIES)
    weights = None if node is None else call.signals.get(node.outputs[0])
    if node is None or weights is None or weights.rows is None or weights.shape[-2:] != (b.shape[-1], b.shape[-2]):
        return None
    found = _mixture(call, node, weights, (_turned(b), _turned(a)), left, None if change is None else _turn(change))
    return _turn(found[0]), None if found[1] is None else _turn(found[1])


def _turn(m: Moments) -> Moments:
    return m.each(lambda t: t.transpose(-2, -1) if t.dim() > 1 else t)


def _turned(x: Signal) -> Signal:
    def swap(axes: Sequence[Any]) -> tuple[Any, ...]:
        return (*axes[:-2], axes[-1], axes[-2])

    rank = len(x.shape)
    return Signal(swap(x.shape), swap(x.roles), *x.mapped(lambda m: _turn(m.ranked(rank))))


def _mixture(
    call: Call, node: Node, weights: Signal, sides: tuple[Signal, Signal], values: int, change: Moments | None
) -> tuple[Moments, Moments | None]:
    a, b = sides
    assert weights.rows is not None
    rows = weights.rows
    keep = min(1.0, weights.average(weights.second) / max(a.average(a.second), 1e-300))
    if mixes_channels(b):
        return covariance_mixture(rows, keep, a, b)
    scores = upstream(call.graph, node.inputs[0], SCORES, SCALED)
    q, k = (None, None) if scores is None else (call.signals.get(v) for v in scores.inputs[-2:])
    tilt = 0.0 if scores is None else _tilt(call, scores.inputs[-1], values)
    changes = [None if b.tangent is None else mixed(b, b.tangent, rows, 0.0, keep)]
    if q is None or k is None or (q.tangent is None and k.tangent is None):
        changes.append(change)
    else:
        unit = q.average(q.second) * k.average(k.second - within(k, k.moments))
        changes += _through_scores(q, k, b, rows, rows.variance / max(unit, 1e-300), tilt, keep)
    return mixed(b, b.moments, rows, tilt * rows.variance, keep), summed([(c, 1.0) for c in changes])


ATTENTION: Mapping[str, Rule] = {
    "scaled_dot_product_attention": attention,
    **dict.fromkeys(("softmax", "_softmax"), softmax),
}
