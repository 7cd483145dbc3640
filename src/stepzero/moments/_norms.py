"""Rules for normalisation: what a mean over a set removes, and what its variance divides by.

For a set S of elements, Var_S[x] = mean(x²) - mean over pairs of x·x', self-pairs counted. Pairs meet at the same
or another place, in the same or another input, or in different channels (independent over the weights: mean²),
so the variance that a norm really divides by follows from the moments (Yang et al. 2019, arXiv:1902.08129).
Backward, with x̂ the output and s² the variance, J = (I - 11ᵀ/N - x̂x̂ᵀ/N)/s acts on small changes by the same pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._channels import one_of_each, runs_of, spread
from stepzero.moments._joins import add, multiply
from stepzero.moments._signal import Moments, Part, Signal, widen
from stepzero.moments._weight_norms import standardised_weight, weight_norm

LEAST_FREE = 4.0  # independent members that a variance is taken to have at least: E[1/v] of fewer is endless


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
    Where the set is small or its members alike, v scatters too, and here the weights do not help: E[v] E[1/v] is
    r/(r - 2) for r members that count as independent (`_Set.independent`).
    """
    first, group = runs_of(x) if 1 not in dims else (None, None)
    if first is None or group is None:
        return _normalised(x, dims, eps, centre)
    few = _normalised(one_of_each(x, first, group), dims, eps, centre)
    return Signal(x.shape, x.roles, *few.mapped(lambda m: spread(m, group)), stream=few.stream, scatter=x.scatter)


def _normalised(x: Signal, dims: Sequence[int], eps: float, centre: bool) -> Signal:
    if centre and prod(x.shape[d] for d in dims) == 1:  # one member is its own mean
        return x.scaled(0.0)
    members = _Set.of(x, dims)
    m = x.moments.ranked(len(x.shape))
    with torch.no_grad():
        pair = members.mean(members.pairs(m)) if centre else torch.zeros((), dtype=torch.float64)
        scale = 1.0 / ((members.mean(m.second) - pair).clamp_min(0.0) + eps)
        y = (members.without_mean(m) if centre else m).times(scale)
        y = y._replace(second=y.second.clamp_min(0.0))
    shrunk = float(scale.mean())
    stream = x.stream.times(shrunk**0.5)
    if x.tangent is None:
        return Signal(x.shape, x.roles, y, stream=stream, scatter=x.scatter)
    free = members.independent(y, x.roles).clamp_min(LEAST_FREE)

    def through(change: Moments) -> Moments:
        change = change.ranked(len(x.shape))
        change = members.without_mean(change) if centre else change
        along = members.mean(members.pairs(_product(change, y)))
        change = Moments(change.mean, *(c - along * k for c, k in zip(change[1:], y[1:], strict=True)))
        return change.times(scale * (free / (free - 2.0)))

    change, parts = _uneven(x) if members.channels == 1 else (x.tangent, [])
    parts = [Part(through(p.change), p.mean * shrunk**0.5, p.variance * shrunk) for p in parts]
    return Signal(x.shape, x.roles, y, through(change), stream=stream, scatter=x.scatter, parts=parts)


def _uneven(x: Signal) -> tuple[Moments, list[Part]]:
    """Let the change that starts between weights and norm meet E[1/v], not 1/E[v]: the whole change, and its parts."""
    assert x.tangent is not None
    if x.tap is None or x.unevenness == 1.0:
        return x.tangent, list(x.parts)
    more = (x.unevenness - 1.0) * x.tap
    whole = x.tangent._replace(second=x.tangent.second + more)
    if not x.parts:
        return whole, []
    *others, own = x.parts
    return whole, [*others, own._replace(change=own.change._replace(second=own.change.second + more))]


def _product(change: Moments, y: Moments) -> Moments:
    """E[dx dx'] E[x̂ x̂'] for every kind of pair: what the projection along the output averages."""
    return Moments(change.mean, *(c * k for c, k in zip(change[1:], y[1:], strict=True)))


@dataclass(frozen=True)
class _Set:
    """The elements that are normalised together: axes of a signal, and how many of each role they hold."""

    dims: tuple[int, ...]
    inputs: int
    channels: int
    places: int

    @classmethod
    def of(cls, x: Signal, dims: Sequence[int]) -> _Set:
        """Count the members by the roles of the axes."""
        inside = tuple(x.roles[d] for d in dims)
        channels = R.count(inside, "channel") * R.count(inside, "copy")  # a token's own features
        return cls(tuple(dims), R.count(inside, "batch"), channels, R.count(inside, "position"))

    def mean(self, t: Tensor) -> Tensor:
        """Average a lean tensor over the set."""
        return t.mean(dim=self.dims, keepdim=True) if t.dim() and self.dims else t

    def pairs(self, m: Moments) -> Tensor:
        """Mean over the set of E[x_p x_p'], for each p."""
        b, c, p = self.inputs, self.channels, self.places
        alike = (m.second + (p - 1) * m.elsewhere + (b - 1) * m.across + (b - 1) * (p - 1) * m.apart) / (p * b)
        return alike if c == 1 else alike / c + (1 - 1 / c) * m.mean * self.mean(m.mean)

    def independent(self, y: Moments, roles: R.Roles) -> Tensor:
        """Return r = N² / Σ ρ² over pairs of members of a normalised set: its variance has relative variance 2/r.

        That is the variance of a quadratic form in Gaussians, as a channel is over the draws of its weights; members
        next to each other are told from distant ones, other distances are not.
        """
        b, p = self.inputs, self.places
        axes = [d for d in self.dims if R.is_all(roles[d], "position")]
        beside = min(2 * len(axes), p - 1)
        distant = ((p - 1) * y.elsewhere - beside * y.near) / max(1, p - 1 - beside)
        counts = (1, beside, p - 1 - beside, b - 1, (b - 1) * (p - 1))
        alike = (y.second, y.near, distant, y.across, y.apart)
        squares = torch.broadcast_tensors(*(self.mean(t.square()) for t in alike))
        total = torch.stack([n * t for n, t in zip(counts, squares, strict=True)]).sum(0)
        return b * p * self.channels / total.clamp_min(1e-300)

    def without_mean(self, m: Moments) -> Moments:
        """Subtract the set's own mean; another input's or place's mean is its own where the set does not hold it."""
        row = self.pairs(m)
        removed = 2 * row - self.mean(row)
        other = self._between(m)
        places, inputs = self.places > 1, self.inputs > 1
        return Moments(
            m.mean - self.mean(m.mean),
            m.second - removed,
            m.near - (removed if places else other),
            m.elsewhere - (row if places else other),
            m.across - (removed if inputs else other),
            m.apart - (row if places and inputs else other),
        )

    def _between(self, m: Moments) -> Tensor:
        """What the means of two sets that share no member take away."""
        if self.channels == 1:
            return m.apart
        mean = self.mean(m.mean)
        return 2 * m.mean * mean - mean**2


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
