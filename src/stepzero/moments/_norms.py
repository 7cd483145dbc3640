"""Rules for normalisation: what a mean over a set removes, and what its variance divides by.

For a set S of elements, Var_S[x] = mean(x²) - mean over pairs of x·x', self-pairs counted. Pairs meet at the same
or another place, in the same or another input, or in different channels (independent over the weights: mean²),
so the variance that a norm really divides by follows from the moments (Yang et al. 2019, arXiv:1902.08129).
Backward, with x̂ the output and s² the variance, J = (I - 11ᵀ/N - x̂x̂ᵀ/N)/s acts on small changes by the same pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._channels import one_of_each, runs_of, spread
from stepzero.moments._energies import held_back
from stepzero.moments._joins import add, multiply
from stepzero.moments._members import Members
from stepzero.moments._signal import Moments, Part, Signal, widen
from stepzero.moments._tails import fourth, of_norm
from stepzero.moments._weight_norms import standardised_weight, weight_norm
from stepzero.theory._extremes import mean_inverse_of_one


def batch_norm(call: Call) -> Signal:
    """Normalise each channel over inputs and positions in training; by the running statistics in eval mode."""
    x = call.operand(call.main)
    if not (call.argument("training") or call.argument("use_input_stats")):
        return _by_running_stats(call, x)
    if x.knob is not None:
        return standardised_weight(call, x)
    dims = [d for d in range(len(x.shape)) if d != 1]
    return _affine(call, normalise(x, dims, eps=float(call.argument("eps"))), axis=1)


def instance_norm(call: Call) -> Signal:
    """Normalise each channel of each input over its positions."""
    x = call.operand(call.main)
    if not call.argument("use_input_stats"):
        return _by_running_stats(call, x)
    return _affine(call, normalise(x, range(2, len(x.shape)), eps=float(call.argument("eps"))), axis=1)


def layer_norm(call: Call) -> Signal:
    """Normalise over the last axes: channels are independent, so the mean removed is E[x]."""
    x = call.operand(call.main)
    rank = len(call.argument("normalized_shape"))
    y = normalise(x, range(len(x.shape) - rank, len(x.shape)), eps=float(call.argument("eps")))
    return _affine(call, y, axis=None)


def rms_norm(call: Call) -> Signal:
    """Divide by the root mean square of the last axes."""
    x = call.operand(call.main)
    rank = len(call.argument("normalized_shape"))
    eps = call.argument("eps")
    y = normalise(x, range(len(x.shape) - rank, len(x.shape)), eps=1e-7 if eps is None else float(eps), centre=False)
    return _affine(call, y, axis=None)


def group_norm(call: Call) -> Signal:
    """Normalise each group of channels of each input over its positions."""
    x = call.operand(call.main)
    groups = int(call.argument("num_groups"))
    split = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    roles = (x.roles[0], *R.reshape((x.roles[1],), split[1:3]), *x.roles[2:])
    y = normalise(_regrouped(x, split, roles), range(2, len(split)), eps=float(call.argument("eps")))
    return _affine(call, _regrouped(y, x.shape, x.roles), axis=1)


def normalise(x: Signal, dims: Sequence[int], *, eps: float, centre: bool = True) -> Signal:
    """Return (x - mean) / sqrt(variance + eps) over a set of axes.

    A channel's variance v is that of its own weights: where they are few, E[1/v] exceeds 1/E[v] (9/7 for a depthwise
    3×3). A gradient sees that between the two ops; passed through the same weights it does not, as E[v/v] = 1.
    Where the set is small or its members alike, v scatters too, and here the weights do not help (`Members.scatter`).
    """
    first, group = runs_of(x) if 1 not in dims else (None, None)
    if first is None or group is None:
        return _with_tails(_normalised(x, dims, eps, centre, x), x, dims, centre)
    few = _normalised(one_of_each(x, first, group), dims, eps, centre, x)
    y = Signal(x.shape, x.roles, *few.mapped(lambda m: spread(m, group)), stream=few.stream)
    return _with_tails(y, x, dims, centre)


def _with_tails(y: Signal, x: Signal, dims: Sequence[int], centre: bool) -> Signal:
    """Give the output its tails: where channels are normalised one by one, their squares add to a constant."""
    members = Members.of(x, dims)
    alone = centre and members.channels == 1 and members.places * members.inputs > 1
    y.tails = of_norm(x, y.moments, members.places, members.inputs) if alone else x.tails
    return y


def _normalised(x: Signal, dims: Sequence[int], eps: float, centre: bool, whole: Signal) -> Signal:
    """Normalise a signal, or one channel of each run of a `whole` one."""
    if centre and prod(x.shape[d] for d in dims) == 1:  # one member is its own mean
        return x.scaled(0.0)
    members = Members.of(x, dims)
    m = x.moments.ranked(len(x.shape))
    with torch.no_grad():
        pair = members.mean(members.pairs(m)) if centre else torch.zeros((), dtype=torch.float64)
        variance = (members.mean(m.second) - pair).clamp_min(0.0)
        scale = 1.0 / (variance + eps)
        felt = (variance * scale).square()  # where eps is the larger part (streams of 1e-10), v may scatter as it likes
        y = (members.without_mean(m) if centre else m).times(scale)
        inverse, more = members.scatter(m.times(scale), centre=centre)
        inverse = 1.0 + (inverse - 1.0) * felt
        y = Moments(y.mean, y.second.clamp_min(0.0), *(t + s * felt for t, s in zip(y[2:], more[2:], strict=True)))
        y, livelier = _held_back(whole, y, members) if centre else (y, 1.0)
    shrunk = float(scale.mean())
    stream = x.stream.times(shrunk**0.5)
    if x.tangent is None:
        return Signal(x.shape, x.roles, y, stream=stream)

    def through(change: Moments) -> Moments:
        change = change.ranked(len(x.shape))
        change = members.without_mean(change) if centre else change
        along = members.along(change, y)
        change = Moments(change.mean, *(c - a * k for a, c, k in zip(along, change[1:], y[1:], strict=True)))
        return change.times(scale * inverse * livelier)

    unevenness = _felt_unevenness(x, eps * shrunk)
    change, parts = _uneven(x, unevenness) if members.channels == 1 else (x.tangent, [])
    bend = scale.square() * inverse * _of_two(unevenness) * (1.0 - 1.0 / members.inputs)
    parts = [
        p._replace(change=p.change.ranked(len(x.shape)).times(bend))  # of a channel's own direction 1/inputs is removed
        if p.bent
        else Part(through(p.change), p.mean * shrunk**0.5, p.variance * shrunk)
        for p in parts
    ]
    return Signal(x.shape, x.roles, y, through(change), stream=stream, parts=parts)


def _felt_unevenness(x: Signal, share: float) -> float:
    """Return E[v + eps]·E[1/(v + eps)] where a single weight makes v, and eps alone keeps it finite; else that without eps.

    Args:
        x: What is normalised.
        share: eps over E[v + eps].
    """
    if not math.isinf(x.unevenness):
        return x.unevenness
    return mean_inverse_of_one(share / (1.0 - share)) if 0.0 < share < 1.0 else 1.0


def _held_back(x: Signal, y: Moments, members: Members) -> tuple[Moments, Tensor | float]:
    """Let strong inputs of a batch keep less of a channel that they make large (`_energies.held_back`)."""
    if members.channels > 1 or members.inputs == 1:
        return y, 1.0
    own, _, elsewhere, across, apart = fourth(x, x.moments, x.tails, centred=True)
    return held_back(x, y, (own, elsewhere, across, apart), members.places)


def _of_two(unevenness: float) -> float:
    """E[w²w'²/v²]·E[v]²/(E[w²]E[w'²]) = n/(n + 2) for two of n weights that make v, known by E[v]E[1/v] = n/(n - 2)."""
    return unevenness / (2.0 * unevenness - 1.0)


def _uneven(x: Signal, unevenness: float) -> tuple[Moments, list[Part]]:
    """Let the change that starts between weights and norm meet E[1/v], not 1/E[v]: the whole change, and its parts."""
    assert x.tangent is not None
    if x.tap is None or unevenness == 1.0:
        return x.tangent, list(x.parts)
    more = (unevenness - 1.0) * x.tap
    whole = x.tangent._replace(second=x.tangent.second + more)
    if not x.parts:
        return whole, []
    *others, own = x.parts
    return whole, [*others, own._replace(change=own.change._replace(second=own.change.second + more))]


def _affine(call: Call, y: Signal, axis: int | None) -> Signal:
    """Multiply by the scale and add the shift, if the op has them."""
    for name, combine in (("weight", multiply), ("bias", add)):
        if call.node.arguments.get(name) is None:
            continue
        part = call.operand(name)
        if name == "weight" or bool(part.second.any()):
            y = combine(call, y, _aligned(part, y, axis))
    return y


def _aligned(part: Signal, y: Signal, axis: int | None) -> Signal:
    """Bring a per-channel parameter to the rank of the activation."""
    rank = len(y.shape)
    shape = [1] * rank
    if axis is None:
        shape[rank - len(part.shape) :] = part.shape
    else:
        shape[axis] = part.shape[0]

    def fit(t: Tensor) -> Tensor:
        return t.reshape(shape) if t.numel() == prod(part.shape) else t.reshape((1,) * rank)

    roles = tuple(a if n > 1 else () for a, n in zip(y.roles, shape, strict=True))
    return widen(Signal(shape, roles, part.moments.each(fit)), y.shape, y.roles)


def _by_running_stats(call: Call, x: Signal) -> Signal:
    """Eval mode: an affine map; fresh statistics (0, 1) make it the identity."""
    shape = [1] * len(x.shape)
    shape[1] = -1
    shift = call.operand("running_mean").mean.reshape(shape)
    inverse = 1.0 / (call.operand("running_var").mean + float(call.argument("eps"))).reshape(shape)
    alike = bool((shift == shift[:, :1]).all() & (inverse == inverse[:, :1]).all())
    shift, inverse = (shift[:, :1], inverse[:, :1]) if alike else (shift, inverse)
    m = x.moments
    moved = Moments(m.mean - shift, *(t - 2 * shift * m.mean + shift**2 for t in m[1:]))
    tangent = None if x.tangent is None else x.tangent.times(inverse)
    stream = x.stream.times(float(inverse.mean()) ** 0.5)
    return _affine(call, Signal(x.shape, x.roles, moved.times(inverse), tangent, stream=stream), axis=1)


def _regrouped(x: Signal, shape: Sequence[int], roles: R.Roles) -> Signal:
    """Split the channel axis into groups, or merge it again."""
    rank, splits = len(x.shape), len(shape) > len(x.shape)

    def fit(t: Tensor) -> Tensor:
        if splits:
            middle = (1, 1) if t.shape[1] == 1 else tuple(shape[1:3])
            return t.reshape(t.shape[0], *middle, *t.shape[2:])
        if t.shape[1] * t.shape[2] == 1:
            return t.reshape(t.shape[0], 1, *t.shape[3:])
        return t.expand(t.shape[0], *x.shape[1:3], *t.shape[3:]).reshape(t.shape[0], -1, *t.shape[3:])

    m, tangent = x.mapped(lambda m: m.ranked(rank).each(fit))
    return Signal(shape, roles, m, tangent)


NORMS: dict[str, Rule] = {
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "_weight_norm": weight_norm,
}
