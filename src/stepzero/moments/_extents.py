"""Rules for what a set of elements amounts to: its length, its variance, its largest member, the logarithm of its exponentials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _pointwise as P
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule, dimensions
from stepzero.moments._hidden import hidden, seen
from stepzero.moments._joins import binary, larger
from stepzero.moments._signal import Moments, Signal, ranked
from stepzero.moments._signs import sign
from stepzero.theory._extremes import expand_maximum
from stepzero.theory._log_sum import log_sum


def length(call: Call) -> Signal:
    """The Euclidean norm along axes: √Σ E[x²], the same everywhere; right within 1/n for n independent elements.

    The 1-norm of what cannot be negative is its sum. No change passes: what divides by it sees a constant.
    """
    order = float(call.argument("ord", call.argument("p")) or 2)
    if order == 1.0 and sign(call.graph, call.node.inputs[0]) > 0:
        x = call.operand("self")
        dims = dimensions(call.argument("dim"), len(x.shape))
        return _without(call, x, dims, _certain(_total(x, x.mean, dims)))
    if order != 2.0:
        raise NoRuleError(f"{call.op} (at {call.where}) of order {call.argument('ord')} has no rule")
    x = call.operand("self")
    dims = dimensions(call.argument("dim"), len(x.shape))
    return _without(call, x, dims, _certain(_total(x, x.second, dims).sqrt()))


def distance(call: Call) -> Signal:
    """cdist: Euclidean distances of rows, √Σ E[(a - b)²], the same everywhere; right within 1/n for n independent elements.

    No change passes: nearest codes are found by it.
    """
    a, b = call.operand("x1"), call.operand("x2")
    if float(call.argument("p", 2.0)) != 2.0:
        raise NoRuleError(f"{call.op} (at {call.where}) of order {call.argument('p')} has no rule")
    means = a.average(a.mean) * b.average(b.mean)
    square = a.shape[-1] * (a.average(a.second) + b.average(b.second) - 2.0 * means)
    m = _certain(torch.full((1,) * len(call.shape), max(square, 0.0) ** 0.5, dtype=torch.float64))
    return Signal(call.shape, (*a.roles[:-1], R.single(call.shape[-1], "channel")), m)


def variance(call: Call) -> Signal:
    """The variance along axes: E[x²] less what the members share, as a number that is the same everywhere."""
    x = call.operand("self")
    dims = dimensions(call.argument("dim"), len(x.shape))
    return _without(call, x, dims, _certain(_total(x, x.second - _shared(x, dims), dims) / _size(x, dims)))


def largest(call: Call) -> Signal | tuple[Signal | None, ...]:
    """The largest (or smallest) of a set of equally correlated Gaussians, behind an increasing pointwise function.

    With x = m + √c·a + √v·ε, c shared: max x = m + √c·a + √v·M, M the largest of k standard normals. It is taken as
    Gaussian in turn (second moment within 2 % for ReLU of up to 64). The change is that of the member that wins.
    Members that a mask hides behind minus infinity do not count; nor does a set that has no other.
    """
    if "other" in call.node.arguments:
        return binary(larger)(call)
    if call.argument("dim") is None and call.op in ("max", "min"):
        raise NoRuleError(f"{call.op} (at {call.where}) over everything has no rule")
    x = call.operand("self")
    root, phi = P.root_of(x)
    if x.source is not None and not increasing(phi):
        root, phi = x, P.IDENTITY
    dims = dimensions(call.argument("dim"), len(x.shape))
    sign = -1.0 if call.op in ("amin", "min") else 1.0
    y = _extreme(call, root, dims, sign)
    if phi is not P.IDENTITY:
        y = P.pending(y, phi)
    return (y, None) if len(call.shapes) == 2 else y


def log_total(call: Call) -> Signal:
    """log Σ eˣ of a set of Gaussians, exact where all share the same and are else independent (`theory.log_sum`).

    With x = m + √c·a + √v·ε, c shared: m + √c·a + log Σ e^(√v·ε). A change is the sum of the members' by their shares of a softmax.
    """
    x = call.operand("self")
    dims = dimensions(call.argument("dim"), len(x.shape))
    n, places = _size(x, dims), _places(x, dims)
    m = x.moments.each(lambda t: _total(x, t, dims) / n)
    common = (m.elsewhere - m.mean**2).clamp_min(0.0) if places else torch.zeros_like(m.mean)
    shift, spread, one = _log_sums((m.second - m.mean**2 - common).clamp_min(0.0), n)
    mean = m.mean + shift
    pairs = (mean**2 + (t - m.mean**2).clamp_min(0.0) for t in m[2:])
    change = None
    if x.tangent is not None:
        c = x.tangent.each(lambda t: _total(x, t, dims) / n)
        alike = (1.0 - one) * c.elsewhere if places else 0.0
        change = Moments(c.mean, one * c.second + alike, *(t * (1.0 if places else 1.0 / n) for t in c[2:]))
    return _without(call, x, dims, Moments(mean, mean**2 + common + spread, *pairs), change)


def _log_sums(variance: Tensor, count: int) -> tuple[Tensor, ...]:
    """Look up a map of variances, to three digits where they differ."""
    different, back = torch.unique(variance, return_inverse=True)
    digits = 12 if different.numel() < 16 else 3
    rows = [log_sum(float(f"{v:.{digits}g}"), count) for v in different.tolist()]
    return tuple(torch.tensor(column, dtype=torch.float64)[back] for column in zip(*rows, strict=True))


def _extreme(call: Call, x: Signal, dims: Sequence[int], sign: float) -> Signal:
    behind = hidden(x, sign)
    count = _total(x, torch.where(behind, 0.0, 1.0).to(torch.float64), dims)
    first, spread = _largest_normal(count.clamp_min(1.0))

    def average(t: Tensor) -> Tensor:
        return _total(x, torch.where(behind, 0.0, t), dims) / count.clamp_min(1.0)

    own = seen(x.moments, behind)
    m = own.each(average)
    common = (average(own.elsewhere if _places(x, dims) else own.mean**2) - m.mean**2).clamp_min(0.0)
    private = (m.second - m.mean**2 - common).clamp_min(0.0)
    mean = torch.where(count > 0, m.mean + sign * first * private.sqrt(), -sign * math.inf)
    pairs = (mean**2 + (t - m.mean**2) for t in m[2:])
    change = None
    if x.tangent is not None:
        c = x.tangent.each(average)
        met = 1.0 if _places(x, dims) else 1.0 / _size(x, dims)  # the same winner
        change = Moments(c.mean, c.second, *(t * met for t in c[2:]))
    return _without(call, x, dims, Moments(mean, mean**2 + common + spread * private, *pairs), change)


def _largest_normal(count: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the largest of so many standard normals, for each count."""
    different, back = torch.unique(count, return_inverse=True)
    one = np.ones(len(different))
    e = expand_maximum(P.IDENTITY, (), 0 * one, one, 0 * one, different.numpy())
    mean = e.coefficients[:, 0]
    return torch.from_numpy(np.ascontiguousarray(mean))[back], torch.from_numpy(e.second - mean**2)[back]


def increasing(phi: P.Pointwise) -> bool:
    y, _ = phi(np.linspace(-4.0, 4.0, 161))
    return bool((np.diff(y) >= -0.02 * np.ptp(y)).all())


def _shared(x: Signal, dims: Sequence[int]) -> Tensor:
    """What two members of the set have in common: places share, channels share their mean."""
    return x.elsewhere if _places(x, dims) else x.mean**2


def _places(x: Signal, dims: Sequence[int]) -> bool:
    return bool(dims) and all(R.of(x.roles[d]) <= {"position"} for d in dims)


def _size(x: Signal, dims: Sequence[int]) -> int:
    return prod(x.shape[d] for d in dims)


def _total(x: Signal, t: Tensor, dims: Sequence[int]) -> Tensor:
    """Sum a lean tensor over axes, which stay with size 1."""
    t = ranked(t, len(x.shape))
    return t.sum(dim=tuple(dims), keepdim=True) * prod(x.shape[d] for d in dims if t.shape[d] == 1)


def _certain(value: Tensor) -> Moments:
    """A number that does not scatter."""
    return Moments(value, *(value**2,) * 5)


def _without(call: Call, x: Signal, dims: Sequence[int], m: Moments, change: Moments | None = None) -> Signal:
    """Drop the axes that are gone, unless the op keeps them."""
    roles = tuple(() if d in dims else axis for d, axis in enumerate(x.roles))
    if not call.argument("keepdim"):
        roles = tuple(axis for d, axis in enumerate(roles) if d not in dims)
        m = m.each(lambda t: ranked(t, len(x.shape)).squeeze(tuple(dims)))
        change = None if change is None else change.each(lambda t: t.squeeze(tuple(dims)))
    return Signal(call.shape, roles, m, change)


EXTENTS: dict[str, Rule] = {
    **dict.fromkeys(("linalg_vector_norm", "linalg_norm", "norm"), length),
    "cdist": distance,
    "logsumexp": log_total,
    "var": variance,
    **dict.fromkeys(("amax", "amin", "max", "min"), largest),
}
"""`max` and `min` of two tensors are `maximum` and `minimum`."""
