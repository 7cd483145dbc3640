"""What few weights leave of themselves: channels of unequal variance, changes that know the weights, squares that stray together."""

from __future__ import annotations

import math

import torch

from stepzero.moments._linear import Operator
from stepzero.moments._meetings import Meetings
from stepzero.moments._signal import Moments, Part, Signal, Tails
from stepzero.moments._tails import of_weights
from stepzero.theory._extremes import mean_inverse


def unevenness(m: Moments, w: Signal, op: Operator, fan: float) -> float:
    """Return E[v]·E[1/v] of a channel's variance v over the draws of its few (Gaussian) weights: endless for a single one.

    All weights of a channel count that any place uses: 8.3 of a padded 3×3 on a 3×3 map, where an output meets 5.4.
    """
    if w.known is not None or not 0.0 < fan < 200.0 or not bool((w.second > w.mean**2).any()):
        return 1.0
    taps = op.taps()
    fan = max(fan, w.shape[1] * taps) if len(w.shape) > 2 else fan
    if fan <= 2.0:
        return math.inf if fan <= 1.0 else 1.0
    private, near, apart = (float(t.detach().mean()) for t in (m.second, m.near, m.apart))
    spread = private - apart
    rho = min(max((near - apart) / spread, 0.0), 0.999) if spread > 0 else 0.0
    return mean_inverse(rho, min(taps, fan), fan)


def parts_of_few(x: Signal, w: Signal, op: Operator, y: Moments, change: Moments | None, fan: float) -> list[Part]:
    """Say what few weights (2 to 200) do to a change beyond their variance: `_livelier`, `_bent`."""
    if change is None or w.known is not None or len(w.shape) < 3 or not 2.0 < fan < 200.0:
        return []
    there = x.average(x.mean) + x.stream.live_mean
    inside = x.variance + x.stream.live_variance
    part = _livelier(x, change, y, there * there + inside, fan)
    if op.meetings is None:
        return [part]
    return [part, _bent(x, change, y, x.stream.live_mean**2 + inside, op.meetings())]


def _livelier(x: Signal, change: Moments, y: Moments, lively: float, fan: float) -> Part:
    """Where a change passes one of few weights, this weight and its input make the output large as well.

    With weights w²E[x²φ'²]/E[φ'²], E[w⁴] of normalised weights being 3n/(n + 2), the output's variance there is
    larger by a share of (3n/(n + 2) · E[x²φ'²]/(E[x²]E[φ'²]) - 1)/n: an activation that is steep where its
    argument is large (silu, hard-swish, not ReLU) lets more of the change through.
    """
    second = x.average(x.second)
    share = (3 * fan / (fan + 2) * lively / second - 1.0) / fan if second > 0 else 0.0
    return Part(change, 0.0, share * float((y.second - y.mean**2).mean()))


def _bent(x: Signal, change: Moments, y: Moments, lively: float, meet: Meetings) -> Part:
    """A change of one input that reaches several places of a channel, each by a weight of its own.

    E[w w'] = 0 keeps them apart, but φ' behind them knows the weights: y holds w(x - E[x]) and y' the same with w', so
    E[w w' φ'(y)φ'(y')] = E[w²w'²]·E[(x - E[x])²φ'(x)²]/E[φ'(x)²]·E[φ''φ'']. A gradient that all places of a map have in
    common (of a mean over it, of a squeeze-and-excite gate) comes through a depthwise 3×3 a third larger for it; that is
    predicted to 1 % under ReLU, 5 % under SiLU.
    """
    second = x.average(x.second)
    gain = lively * float(y.second.mean()) / second if second > 0 else 0.0
    zero = torch.zeros_like(change.second)
    near, elsewhere = (change.second * (gain * share) for share in (meet.inputs_near, meet.inputs_elsewhere))
    return Part(Moments(zero, zero, near, elsewhere, zero, zero), 0.0, 0.0, bent=True)


def tails(x: Signal, w: Signal, op: Operator, fan: float) -> Tails:
    """Return how an output's squares stray together where its weights are few: in groups, whose fans do not grow with width."""
    if w.known is not None or op.meetings is None or not 0.0 < fan < 200.0:
        return Tails()
    return of_weights(x, op.meetings())
