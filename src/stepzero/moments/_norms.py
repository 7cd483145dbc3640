"""Rules for normalisation: what a mean over a set removes, and what its variance divides by.

For a set S of elements, Var_S[x] = mean(x²) - mean over pairs of x·x', self-pairs counted. Pairs meet at the same
or another place, in the same or another input, or in different channels (independent over the weights: mean²),
so the variance that a norm really divides by follows from the five moments (Yang et al. 2019, arXiv:1902.08129).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule, dimensions, tensor64
from stepzero.moments._joins import operand
from stepzero.moments._signal import Knob, Moments, Signal, widen


def batch_norm(call: Call) -> Signal:
    """Normalise each channel over inputs and positions in training; by the running statistics in eval mode.

    Gradients lose their mean and their part along the output: a factor 1 - 2/N for N elements in the set, with
    gradients taken as uncorrelated (they are not after global pooling: an upper bound there).
    """
    x = call.need("input")
    if not (call.argument("training") or call.argument("use_input_stats")):
        return _by_running_stats(call, x)
    dims = [d for d in range(len(x.shape)) if d != 1]
    if x.knob is not None:
        return _standardised_weight(call, x)
    return _affine(call, normalise(x, dims, eps=float(call.argument("eps"))), axis=1)


def instance_norm(call: Call) -> Signal:
    """Normalise each channel of each input over its positions."""
    x = call.need("input")
    if not call.argument("use_input_stats"):
        return _by_running_stats(call, x)
    return _affine(call, normalise(x, range(2, len(x.shape)), eps=float(call.argument("eps"))), axis=1)


def layer_norm(call: Call) -> Signal:
    """Normalise over the last axes: channels are independent, so the mean removed is E[x]."""
    x = call.need("input")
    rank = len(call.argument("normalized_shape"))
    y = normalise(x, range(len(x.shape) - rank, len(x.shape)), eps=float(call.argument("eps")))
    return _affine(call, y, axis=None)


def rms_norm(call: Call) -> Signal:
    """Divide by the root mean square of the last axes."""
    x = call.need("input")
    rank = len(call.argument("normalized_shape"))
    eps = call.argument("eps")
    y = normalise(x, range(len(x.shape) - rank, len(x.shape)), eps=1e-7 if eps is None else float(eps), centre=False)
    return _affine(call, y, axis=None)


def group_norm(call: Call) -> Signal:
    """Normalise each group of channels of each input over its positions."""
    x = call.need("input")
    groups = int(call.argument("num_groups"))
    split = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    roles = (x.roles[0], *R.reshape((x.roles[1],), split[1:3]), *x.roles[2:])
    y = normalise(_reshaped(x, split, roles, 1), range(2, len(split)), eps=float(call.argument("eps")))
    return _affine(call, _reshaped(y, x.shape, x.roles, 1), axis=1)


def normalise(x: Signal, dims: Sequence[int], *, eps: float, centre: bool = True) -> Signal:
    """Return (x - mean) / sqrt(variance + eps) over a set of axes."""
    dims = list(dims)
    m = Moments(*(_ranked(t, len(x.shape)) for t in x.moments))
    near = _pairs_with(m, x, dims) if centre else tensor64(0.0)  # mean over the set of x_p x_p'
    mean_pair = _mean(near, dims)
    square = _mean(m.second, dims)
    variance = (square - mean_pair).clamp_min(0.0)
    scale = 1.0 / (variance + eps)
    inside = {role for d in dims for role in R.of(x.roles[d])}
    places, inputs = "position" in inside, "batch" in inside
    removed = 2 * near - mean_pair
    second = (m.second - removed).clamp_min(0.0) * scale
    near_places = (m.near - (removed if places or not centre else _other(m, x, dims))) * scale
    elsewhere = (m.elsewhere - (near if places or not centre else _other(m, x, dims))) * scale
    across = (m.across - removed if inputs else m.across - _other(m, x, dims)) * scale if centre else m.across * scale
    apart = (m.apart - (near if places and inputs else _other(m, x, dims))) * scale if centre else m.apart * scale
    mean = (m.mean - _mean(m.mean, dims)) * scale.sqrt() if centre else m.mean * scale.sqrt()
    size = prod(x.shape[d] for d in dims)
    lost = max(0.0, 1.0 - (2.0 if centre else 1.0) / size) if size else 1.0
    carrier = x.carrier * scale * lost
    return Signal(x.shape, x.roles, Moments(mean, second, near_places, elsewhere, across, apart), carrier)


def _pairs_with(m: Moments, x: Signal, dims: Sequence[int]) -> Tensor:
    """Mean over the set of E[x_p x_p'], for each p."""
    factors = [factor for d in dims for factor in x.roles[d]]
    size = {role: prod(n for n, r in factors if r == role) for role in ("batch", "channel", "position")}
    b, c, p = size["batch"], size["channel"], size["position"]
    alike = (m.second + (p - 1) * m.elsewhere + (b - 1) * m.across + (b - 1) * (p - 1) * m.apart) / (p * b)
    if c == 1:
        return alike
    return alike / c + (1 - 1 / c) * m.mean * _mean(m.mean, dims)


def _other(m: Moments, x: Signal, dims: Sequence[int]) -> Tensor:
    """The pair mean removed between two inputs when each is normalised on its own."""
    inside = {role for d in dims for role in R.of(x.roles[d])}
    if inside <= {"channel"}:
        return m.mean**2
    return m.apart if "channel" not in inside else m.mean * _mean(m.mean, dims)


def _mean(t: Tensor, dims: Sequence[int]) -> Tensor:
    return t.mean(dim=tuple(dims), keepdim=True) if t.dim() and dims else t


def _ranked(t: Tensor, rank: int) -> Tensor:
    return t if t.dim() == rank else t.reshape((1,) * (rank - t.dim()) + tuple(t.shape))


def _affine(call: Call, y: Signal, axis: int | None) -> Signal:
    """Multiply by the scale and add the shift, if the op has them."""
    for name, combine in (("weight", _times), ("bias", _plus)):
        part = call.signal(name)
        if part is None and call.node.arguments.get(name) is not None:
            part = operand(call, name)
        if part is not None:
            y = combine(y, _aligned(part, y, axis))
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
    small = Signal(shape, roles, part.moments.each(fit), part.carrier)
    return widen(small, y.shape, y.roles)


def _times(y: Signal, g: Signal) -> Signal:
    m, n = y.moments, g.moments
    rest = [t * n.second for t in m[1:]]
    return Signal(y.shape, y.roles, Moments(m.mean * n.mean, *rest), y.carrier * n.second)


def _plus(y: Signal, b: Signal) -> Signal:
    m, n = y.moments, b.moments
    if not float(n.second.abs().max()):
        return y
    rest = [t + n.second + 2 * m.mean * n.mean for t in m[1:]]
    return Signal(y.shape, y.roles, Moments(m.mean + n.mean, *rest), y.carrier)


def _by_running_stats(call: Call, x: Signal) -> Signal:
    """Eval mode: an affine map; fresh statistics (0, 1) make it the identity."""
    mean, var = (operand(call, k) if call.node.arguments.get(k) is not None else None for k in ("running_mean", "running_var"))
    eps = float(call.argument("eps"))
    y = x
    if mean is not None and var is not None and mean.known is not None and var.known is not None:
        shape = [1] * len(x.shape)
        shape[1] = -1
        shift, scale = mean.known.reshape(shape), (var.known + eps).rsqrt().reshape(shape)
        if bool((shift == shift.flatten()[0]).all() & (scale == scale.flatten()[0]).all()):
            shift, scale = (t.flatten()[0].reshape([1] * len(x.shape)) for t in (shift, scale))
        m = x.moments
        rest = [(t - 2 * shift * m.mean + shift**2) * scale**2 for t in m[1:]]
        y = Signal(x.shape, x.roles, Moments((m.mean - shift) * scale, *rest), x.carrier * scale**2)
    return _affine(call, y, axis=1)


def _standardised_weight(call: Call, w: Signal) -> Signal:
    """Weight standardisation: each row gets mean 0 and variance gain² (Qiao et al. 2019; Brock et al. 2021)."""
    gain = operand(call, "weight") if call.node.arguments.get("weight") is not None else None
    second = tensor64(1.0 if gain is None else gain.average(gain.second)).reshape((1,) * len(w.shape))
    zero = torch.zeros_like(second)
    knob = None if gain is None or gain.knob is None else Knob(gain.knob.parameter, gain.knob.factor)
    return Signal(w.shape, w.roles, Moments(zero, second, zero, zero, second, zero), w.carrier * 0, knob=knob, centred=True)


def weight_norm(call: Call) -> Signal:
    """w = g·v/|v|: E[w²] = E[g²] / (elements of v for each g) (Salimans & Kingma 2016, eq. 2)."""
    v, g = call.need("v"), call.need("g")
    n = prod(v.shape) / prod(g.shape)
    second = tensor64(g.average(g.second) / n).reshape((1,) * len(v.shape))
    zero = torch.zeros_like(second)
    knob = None if g.knob is None else Knob(g.knob.parameter, g.knob.factor / n)
    return Signal(v.shape, v.roles, Moments(zero, second, zero, zero, second, zero), v.carrier * 0, knob=knob)


def _reshaped(x: Signal, shape: Sequence[int], roles: R.Roles, axis: int) -> Signal:
    """Split or merge the channel axis."""

    def fit(t: Tensor) -> Tensor:
        t = _ranked(t, len(x.shape))
        split = len(shape) > len(x.shape)
        if split:
            middle = (1, 1) if t.shape[axis] == 1 else tuple(shape[axis : axis + 2])
            return t.reshape(*t.shape[:axis], *middle, *t.shape[axis + 1 :])
        group, member = t.shape[axis : axis + 2]
        if group * member == 1:
            return t.reshape(*t.shape[:axis], 1, *t.shape[axis + 2 :])
        wide = (*t.shape[:axis], *x.shape[axis : axis + 2], *t.shape[axis + 2 :])
        return t.expand(wide).reshape(*t.shape[:axis], -1, *t.shape[axis + 2 :])

    return Signal(shape, roles, x.moments.each(fit), fit(x.carrier))


NORMS: dict[str, Rule] = {
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "_weight_norm": weight_norm,
}
Reduce = Callable[[Tensor], Tensor]
__all__ = ["NORMS", "dimensions", "normalise"]
