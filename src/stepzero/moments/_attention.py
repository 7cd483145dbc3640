"""Rules for attention: scores, softmax rows, value mixing, and tokens looked up in a table.

Scores of random queries and keys are Gaussian with a variance τ² within each row; a softmax row of T of them has
E[Σ p²] = S(T, τ²), and mixing values of second moment q and pair moment e puts out e + (q - e)·S: what tokens share
survives, what is private is averaged (THEORY: rank collapse, Dong et al. 2021, arXiv:2103.03404).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule, tensor64
from stepzero.moments._joins import summed
from stepzero.moments._signal import Moments, Signal, ranked
from stepzero.theory._softmax import concentration

LENGTHS = 24  # different row lengths that are computed; those between are interpolated in their logarithm
HIDDEN = -20.0  # an additive mask below this hides a key


def attention(call: Call) -> Signal:
    """softmax(q·kᵀ·scale + mask)·v on averages over heads and tokens, row by row where a mask makes rows differ.

    Keys and values made from one input tilt the mixture towards values that point along the query, by τ² over the
    width of that input; the heads' widths together are taken for it. Masks that depend on data count as absent.
    """
    q, k, v = (call.operand(name) for name in ("query", "key", "value"))
    seen = _seen(call, q.shape[-2], k.shape[-2])
    lengths = seen.sum(-1)
    scores = _Scores.of(call, q, k)
    share = _concentrations(lengths, scores.private)
    tilt = scores.private / (q.shape[-1] * (q.shape[-3] if len(q.shape) > 3 else 1))
    kept = (share + tilt * (lengths > 1)).clamp_max(1.0)
    p = float(call.argument("dropout_p") or 0.0)
    common = _common(seen, lengths)
    m = _mixed(v, v.moments, kept / (1 - p), common)
    changes: list[tuple[Moments | None, float | Moments]] = []
    if v.tangent is not None:
        changes.append((_mixed(v, v.tangent, share / (1 - p), common), 1.0))
    spread = _average(v, v.second) - _average(v, v.moments.elsewhere)
    through = (share * (1 - share) * spread).mean()
    changes += [(_through_scores(c, float(through)), 1.0) for c in (scores.change(q, k), scores.change(k, q))]
    roles = (*q.roles[:-1], R.single(call.shape[-1], "channel"))
    return Signal(call.shape, roles, m, summed(changes))


@dataclass(frozen=True)
class _Scores:
    """Moments of the scores: variance within a row, and what turns small changes of q or k into theirs."""

    scale: float  # second moment per unit of E[q²]·E[k²]
    private: float

    @classmethod
    def of(cls, call: Call, q: Signal, k: Signal) -> _Scores:
        width = q.shape[-1]
        given = call.argument("scale")
        scale = width * (1.0 / width if given is None else float(given) ** 2)
        bias = call.signal("attn_mask")
        extra = 0.0 if bias is None else _average(bias, bias.second - bias.mean**2)  # a position bias; masks have none
        private = _average(q, q.second) * (_average(k, k.second) - _average(k, k.moments.elsewhere))
        return cls(scale, max(0.0, scale * private) + extra)

    def change(self, x: Signal, other: Signal) -> Moments | None:
        """The change of the scores within a row that a change of x makes."""
        if x.tangent is None:
            return None
        spread = max(_average(other, other.second) - _average(other, other.moments.elsewhere), 0.0)
        return x.tangent.each(lambda t: _scalar(t, len(x.shape)) * self.scale * spread)


def _through_scores(change: Moments | None, gain: float) -> Moments | None:
    """A change of the scores reaches the output at its own token."""
    if change is None:
        return None
    nothing = tensor64(0.0)
    return Moments(nothing, change.second * gain, *(nothing,) * 4)


def _scalar(t: Tensor, rank: int) -> Tensor:
    return t.mean().reshape((1,) * rank)


def _average(x: Signal, t: Tensor) -> float:
    return x.average(t)


def _mixed(v: Signal, m: Moments, share: Tensor, common: tuple[Tensor, Tensor]) -> Moments:
    """Mix values: own q and pair e give e + (q - e)·S in a row, e + (q - e)·Σ p p' between rows."""
    rank = len(v.shape)
    mean, q, _, e, a, d = (_scalar(t, rank) for t in m)
    rows = [t[:1] if bool((t == t[0]).all()) else t for t in (share, *common)]
    own, even, beside = (t.reshape(*(1,) * (rank - 2), -1, 1) for t in rows)
    between, other = e + (q - e) * even, d + (a - d) * even
    return Moments(mean, e + (q - e) * own, e + (q - e) * beside, between, other, other)


def _seen(call: Call, queries: int, keys: int) -> Tensor:
    """Which keys each query sees, shape (queries, keys); masks that differ between heads or inputs are averaged."""
    if call.argument("is_causal"):
        return torch.ones(queries, keys, dtype=torch.float64).tril()
    mask, bias = call.node.arguments.get("attn_mask"), call.signal("attn_mask")
    known = call.graph.values[mask.id].known if mask is not None else None
    if bias is not None:
        known = ranked(bias.mean, 2)
    if known is None:
        return torch.ones(1, keys, dtype=torch.float64).expand(queries, keys)
    seen: Tensor = (known if known.dtype == torch.bool else known > HIDDEN).double()
    return seen.reshape(-1, *seen.shape[-2:]).mean(0).expand(queries, keys)


def _common(seen: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_j p_ij p_i'j for even rows, averaged over the other rows i', and for the rows beside."""
    n = seen.shape[0]
    even = seen / lengths.clamp_min(1e-12)[:, None]
    own = even.square().sum(-1)
    if n == 1:
        return own, own
    beside = (even[1:] * even[:-1]).sum(-1).mean().expand(n)
    return (even @ even.sum(0) - own) / (n - 1), beside


def _concentrations(lengths: Tensor, variance: float) -> Tensor:
    """E[Σ p²] for each row, interpolated in log T where there are many lengths."""
    values = np.unique(lengths.numpy())
    nodes = values
    if values.size > LENGTHS:
        nodes = np.unique(np.exp(np.linspace(np.log(values[0]), np.log(values[-1]), LENGTHS)))
    logs = np.log([concentration(float(t), variance) for t in nodes])
    return torch.from_numpy(np.exp(np.interp(np.log(lengths.numpy()), np.log(nodes), logs)))


def softmax(call: Call) -> Signal:
    """A softmax along one axis: rows of mean 1/T; `near` holds pairs within a row, as matmul leaves them.

    Pairs of different rows are taken as independent. A change δ of the logits gives p(δ - Σ pδ), whose second
    moment is E[p²](1 - E[Σ p²]) times that of δ's private part.
    """
    x = call.operand(call.main)
    rank, m = len(x.shape), x.moments
    d = int(call.argument("dim")) % rank
    terms = x.shape[d]
    variance = max(0.0, _average(x, m.second - m.mean**2) - _average(x, m.near - m.mean**2))
    lengths = _visible(x, d)
    share = float(_concentrations(lengths, variance).mean())
    one, others = tensor64(1.0 / terms).reshape((1,) * rank), max(terms - 1, 1)
    y = Moments(one, one * share, one * (1 - share) / others, one**2, one**2, one**2)
    if x.tangent is None:
        return Signal(x.shape, x.roles, y)
    c = x.tangent.each(lambda t: _scalar(t, rank))
    private = (c.second - c.near) * (share / terms * (1 - share))
    nothing = torch.zeros_like(private)
    return Signal(x.shape, x.roles, y, Moments(nothing, private, -private / others, *(nothing,) * 3))


def _visible(x: Signal, d: int) -> Tensor:
    """How many logits of each row no additive mask hides."""
    seen = ranked(x.mean, len(x.shape)) > HIDDEN
    if seen.shape[d] == 1:
        return torch.full((1,), float(x.shape[d]), dtype=torch.float64)
    return seen.sum(d).double().flatten().clamp_min(1.0)


ATTENTION: Mapping[str, Rule] = {
    "scaled_dot_product_attention": attention,
    **dict.fromkeys(("softmax", "_softmax"), softmax),
}
