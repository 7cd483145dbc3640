"""Attention between channels: rows of a softmax over a cross-covariance matrix mix channels, each place by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, tensor64
from stepzero.moments._joins import summed
from stepzero.moments._rows import Rows
from stepzero.moments._signal import Moments, Signal

FLAT = 1 << 30  # a query so long that its length does not scatter


def mixes_channels(v: Signal) -> bool:
    """Say whether rows that mix these values mix channels at a place, not places."""
    return len(v.shape) > 2 and R.is_all(v.roles[-2], "channel") and "position" in R.of(v.roles[-1])


def agreement(scores: Moments) -> tuple[float, float]:
    """Return how alike the scores of two inputs are, for any two rows and for neighbours."""
    own, other = (float(t.mean()) for t in (scores.second, scores.across))
    same = min(max(other / own, 0.0), 1.0) if own > 0 else 0.0
    return same, same


def covariance_attention(call: Call, q: Signal, k: Signal, v: Signal) -> Signal:
    """softmax(q·kᵀ·scale)·v over channels (El-Nouby et al. 2021, arXiv:2106.09681), on averages.

    A score sums over N places: N E[q²]E[k²] + N(N-1) e_q e_k, and so does its change. Channels are independent, so a
    row of weights keeps E[Σp²] of a value's private part wherever the place, and what the rows of two inputs agree on
    of what inputs share.
    """
    given = call.argument("scale")
    scale = 1.0 / q.shape[-1] if given is None else float(given) ** 2
    keep = 1.0 - float(call.argument("dropout_p") or 0.0)
    scores = _scores(q.moments, k.moments, q.shape[-1], scale)
    rows = Rows.of(torch.ones(1, k.shape[-2], dtype=torch.float64), float(scores.second), agreement(scores), FLAT)
    logits = [_scores(x.tangent, y.moments, q.shape[-1], scale) for x, y in ((q, k), (k, q)) if x.tangent is not None]
    passing = float(rows.jacobian.mean()) / keep
    changes = [_through(c.second * passing, v) for c in logits]
    m, change = _mixed(rows, keep, v, changes)
    rank = len(call.shape)
    roles = (*q.roles[:-1], v.roles[-1])
    return Signal(call.shape, roles, m.ranked(rank), None if change is None else change.ranked(rank))


def covariance_mixture(rows: Rows, keep: float, weights: Signal, v: Signal) -> tuple[Moments, Moments | None]:
    """Return the moments of rows·values over channels, and the change that weights and values bring."""
    changes = [] if weights.tangent is None else [_through(weights.tangent.second.mean() * v.shape[-2], v)]
    return _mixed(rows, keep, v, changes)


def _scores(a: Moments, b: Moments, places: int, scale: float) -> Moments:
    """Sums over places of products of channels, for one input and for two; no two channels have anything in common."""
    nothing = tensor64(0.0)

    def total(own: Tensor, other: Tensor, own_pair: Tensor, other_pair: Tensor) -> Tensor:
        pairs = (places - 1) * own_pair.mean() * other_pair.mean()
        return (scale * places * (own.mean() * other.mean() + pairs)).clamp_min(0.0)

    second = total(a.second, b.second, a.elsewhere, b.elsewhere)
    across = total(a.across, b.across, a.apart, b.apart)
    return Moments(nothing, second, nothing, nothing, across, across)


def _through(weights: Tensor, v: Signal) -> Moments:
    """A change of a row of weights, of this second moment in sum, meets the values of every place alike."""
    m, nothing = _flat(v.moments), tensor64(0.0)
    own, near, elsewhere = ((t - m.mean**2) * weights for t in m[1:4])
    return Moments(nothing, own, near, elsewhere, nothing, nothing)


def _mixed(rows: Rows, keep: float, v: Signal, changes: list[Moments]) -> tuple[Moments, Moments | None]:
    """Rows mix independent channels, the same rows at every place of an input."""
    own, far = float(rows.own.mean()) / keep, float(rows.far.mean())

    def mix(m: Moments) -> Moments:
        square = m.mean**2
        inside = (square + (t - square) * own for t in m[1:4])
        return Moments(m.mean, *inside, *(square + (t - square) * far for t in m[4:]))

    by_values = None if v.tangent is None else mix(_flat(v.tangent))
    return mix(_flat(v.moments)), summed([(c, 1.0) for c in (by_values, *changes)])


def _flat(m: Moments) -> Moments:
    return m.each(lambda t: t.mean())
