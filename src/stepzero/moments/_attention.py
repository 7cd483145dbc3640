"""Rules for attention: scores, softmax rows, value mixing, and tokens looked up in a table.

Scores of random queries and keys are Gaussian with a variance τ² within each row; a softmax row of T of them has
E[Σ p²] = S(T, τ²), and mixing values of second moment q and pair moment e puts out e + (q - e)·S: what tokens share
survives, what is private is averaged (THEORY: rank collapse, Dong et al. 2021, arXiv:2103.03404).

Keys and values that one input x of width d makes add a tilt: a query picks the tokens that point along it, so the
mixture moves by Cov_p(k, v), whose second moment is τ²/d per unit of (q - e); a change of the query meets the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule, tensor64
from stepzero.moments._joins import summed
from stepzero.moments._paths import CARRIES, shared_width, upstream
from stepzero.moments._rows import Rows, mixed, within
from stepzero.moments._signal import Moments, Signal, ranked

HIDDEN = -20.0  # an additive mask below this hides a key
SCORES = frozenset(("matmul", "bmm", "baddbmm", "einsum"))
_SCALED = "add sub mul div masked_fill where to _to_copy clone contiguous alias view reshape unsqueeze squeeze maximum type_as"
SCALED = frozenset(_SCALED.split())  # what stands between scores and softmax


def attention(call: Call) -> Signal:
    """softmax(q·kᵀ·scale + mask)·v on averages over heads and tokens, row by row where a mask makes rows differ.

    Tokens of one window share what lies between `near` and `elsewhere`. Masks that depend on data count as absent.
    """
    q, k, v = (call.operand(name) for name in ("query", "key", "value"))
    scores = _Scores.of(call, q, k)
    rows = Rows.of(_seen(call, q.shape[-2], k.shape[-2]), scores.private, _alike(q), q.shape[-1])
    tilt = _tilt(call, call.node.arguments["key"].id, call.node.arguments["value"].id)
    keep = 1.0 - float(call.argument("dropout_p") or 0.0)
    m = mixed(v, v.moments, rows, tilt * scores.private, keep)
    changes = [None if v.tangent is None else mixed(v, v.tangent, rows, 0.0, keep)]
    changes += _through_scores(q, k, v, rows, scores.scale, tilt, keep)
    roles = (*q.roles[:-1], R.single(call.shape[-1], "channel"))
    return Signal(call.shape, roles, m, summed([(c, 1.0) for c in changes]))


@dataclass(frozen=True)
class _Scores:
    """Second moments of scores: their factor, and their variance within a row."""

    scale: float  # second moment per unit of E[q²]·E[k²]
    private: float

    @classmethod
    def of(cls, call: Call, q: Signal, k: Signal) -> _Scores:
        width = q.shape[-1]
        given = call.argument("scale")
        scale = width * (1.0 / width if given is None else float(given) ** 2)
        bias = call.signal("attn_mask")
        extra = 0.0 if bias is None else bias.average(bias.second - bias.mean**2)  # a position bias; masks have none
        private = q.average(q.second) * k.average(k.second - within(k, k.moments))
        return cls(scale, max(0.0, scale * private) + extra)


def _through_scores(
    q: Signal, k: Signal, v: Signal, rows: Rows, scale: float, tilt: float, keep: float
) -> list[Moments | None]:
    """What small changes of queries and keys make of the mixture: Cov_p(δ, v), row by row.

    A query's change moves its own row; a key's moves all rows, in step as far as queries are alike.
    """
    rank, spread = len(v.shape), v.average(v.second - within(v, v.moments)) / keep
    passing = float(rows.jacobian.mean()) * spread
    paired = passing * float((rows.far / rows.own).mean())
    changes: list[Moments | None] = []
    if q.tangent is not None:
        c, gain = q.tangent, scale * max(0.0, k.average(k.second - within(k, k.moments)))
        own, other = gain * (passing + tilt * spread), gain * (paired + tilt * spread)
        changes.append(_change(c.second.mean() * own, within(q, c).mean() * other, rank))
    if k.tangent is not None:
        c = k.tangent
        private, alike = (c.second - within(k, c)).mean() * scale, q.average(within(q, q.moments))
        changes.append(_change(private * (passing * q.average(q.second)), private * (paired * alike), rank))
    return changes


def _change(second: Tensor, pair: Tensor, rank: int) -> Moments:
    own, pair, nothing = (t.reshape((1,) * rank) for t in (second, pair, tensor64(0.0)))
    return Moments(nothing, own, pair, pair, nothing, nothing)


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
    """
    x = call.operand(call.main)
    rank, m = len(x.shape), x.moments
    d = int(call.argument("dim")) % rank
    terms = x.shape[d]
    variance = max(0.0, x.average(m.second - m.near))
    width, alike = _of_scores(call, x)
    rows = Rows.of(_visible(x, d), variance, alike, width)
    share, even = (float(t.mean()) for t in (rows.own, rows.far))
    one, others = tensor64(1.0 / terms).reshape((1,) * rank), max(terms - 1, 1)
    pair = one * even
    y = Moments(one, one * share, one * (1 - share) / others, pair, pair, pair)
    change = None
    if x.tangent is not None:
        private = (x.tangent.second.mean() - x.tangent.near.mean()) * float(rows.jacobian.mean()) / terms
        private = private.reshape((1,) * rank)
        nothing = torch.zeros_like(private)
        change = Moments(nothing, private, -private / others, *(nothing,) * 3)
    return Signal(x.shape, x.roles, y, change, rows=rows if d == rank - 1 else None)


def _of_scores(call: Call, x: Signal) -> tuple[int, tuple[float, float]]:
    """The queries' width and correlations, if the logits are products of queries and keys."""
    node = upstream(call.graph, call.node.inputs[0], SCORES, SCALED)
    q = None if node is None else call.signals.get(node.inputs[-2])
    if q is None or not q.read:
        return 1 << 30, (0.0, 0.0)
    return q.shape[-1], _alike(q)


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
    node = upstream(call.graph, left, frozenset(("softmax", "_softmax")), CARRIES)
    weights = None if node is None else call.signals.get(node.outputs[0])
    if node is None or weights is None or weights.rows is None or weights.shape[-1] != a.shape[-1]:
        return None
    rows = weights.rows
    keep = min(1.0, weights.average(weights.second) / max(a.average(a.second), 1e-300))
    scores = upstream(call.graph, node.inputs[0], SCORES, SCALED)
    q, k = (None, None) if scores is None else (call.signals.get(v) for v in scores.inputs[-2:])
    tilt = 0.0 if scores is None else _tilt(call, scores.inputs[-1], right)
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
