"""Rules for ops that multiply by a weight: linear maps and convolutions of every kind.

For iid zero-mean weights E[y²] = Var[w] · (the same op with a ones kernel)(E[x²]), whatever the input's
correlations (He et al. 2015, eq. 7, with E[x²] kept as a map). So the op itself runs on the moment map and
borders, strides, dilation, groups and transposition come out exact, with no case analysis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Load
from stepzero.moments._few_weights import parts_of_few, tails, unevenness
from stepzero.moments._geometry import Geometry
from stepzero.moments._linear import Operator, Weight
from stepzero.moments._signal import Moments, Signal, placed, ranked
from stepzero.network import Node, Ref


def weighted(call: Call) -> Signal:
    """Second moments exact for independent weights at any width; pairs through the taps that two outputs share.

    E[(Σ w x)²] = Σ Var[w] E[x²] + E[(Σ E[w] x)²]: the second part, of weights with a mean or with known numbers
    (blur pools), is a fixed linear map of the input; its channels are taken as independent of each other.
    Variances that differ between taps are kept; between channels they are averaged.
    """
    x, w = call.operand(INPUT.get(call.op, "input")), call.operand(WEIGHT.get(call.op, "weight"))
    if OPERATORS[call.op] is convolution:  # a grid of known numbers: positions in Fourier features
        x = placed(x, R.guess(x.shape))
    op = OPERATORS[call.op](call, x, w)
    with torch.no_grad():
        m = without_mean(x.moments, x.roles) if w.centred else x.moments
        fan = x.average(op.variance(op.fold(_alive(m.second))))
        m = m if w.mean.any() else m.each(op.fold)
        partial = _partial_means(x, w, op) if w.centred else 0.0
        second = x.average(op.variance(m.second) + partial)
    if w.known is None:
        w = call.weights.settle(call, w, Load(second, fan, x.average(m.second)))
    weight = Weight(op, w, x)
    with torch.no_grad():
        moments = weight(m, profile=m.second)
        if w.centred:
            seen = partial * weight.variance
            moments = moments._replace(second=moments.second + seen, across=moments.across + seen)
    tangent = None if x.tangent is None else weight(x.tangent.each(weight.fold), profile=None)
    y = Signal(
        call.shape, op.roles, moments, tangent, unevenness=unevenness(m, w, op, fan), tails=tails(x, w, op, fan),
        parts=parts_of_few(x, w, op, moments, tangent, fan),
    )  # fmt: skip
    bias = call.signal("bias") if "bias" in call.node.arguments else call.signal("self")
    return y if bias is None or bias is x else _biased(y, bias, CHANNEL_AXIS.get(call.op, 1))


def without_mean(m: Moments, roles: R.Roles) -> Moments:
    """What a weight whose rows sum to zero sees: the common mean is annihilated, at other places theirs (borders have less)."""
    places = [i - len(roles) for i, axis in enumerate(roles) if "position" in R.of(axis)]
    square, other = m.mean**2, m.mean * _over_places(m.mean, _alive(m.second), places)
    pairs = (m.near - square, m.elsewhere - other, m.across - square, m.apart - other)
    return Moments(torch.zeros_like(m.mean), (m.second - square).clamp_min(0.0), *pairs)


def _over_places(t: Tensor, alive: Tensor, places: Sequence[int]) -> Tensor:
    """Average over the places of a map that hold more than padding (axes counted from the end)."""
    t, alive = torch.broadcast_tensors(t, alive)
    away = [d for d in places if t.dim() >= -d]
    return t.sum(dim=away, keepdim=True) / alive.sum(dim=away, keepdim=True) if away else t


def _partial_means(x: Signal, w: Signal, op: Operator) -> Tensor | float:
    """Return what a row that sums to zero over n weights sees of the mean where its window leaves the map: Σμ² - (Σμ)²/n."""
    if len(w.shape) < 3:
        return 0.0
    mean = op.fold(x.moments.mean)
    return (op.variance(mean**2) - op.variance(mean) ** 2 / prod(w.shape[1:])).clamp_min(0.0)


def _biased(y: Signal, bias: Signal, axis: int) -> Signal:
    """Add a bias: the same number at every place and for every input."""
    shape = [1] * len(y.shape)
    shape[axis] = -1 if bias.second.numel() > 1 else 1
    mean, second = bias.mean.reshape(shape), bias.second.reshape(shape)
    if not bool(second.any()):
        return y
    m = y.moments
    cross = 2 * m.mean * mean
    shifted = Moments(m.mean + mean, *(t + second + cross for t in m[1:]))
    return Signal(y.shape, y.roles, shifted, y.tangent, unevenness=y.unevenness, tails=y.tails, parts=y.parts)


def linear(call: Call, x: Signal, w: Signal) -> Operator:
    """y = x Wᵀ along the last axis (also addmm, mm and matmul, whose weights have shape (in, out)).

    Where tokens are routed to experts (_grouped_mm), each meets one of several weights of the same law.
    """
    fan = x.shape[-1]
    flipped = call.op != "linear"

    def variance(t: Tensor) -> Tensor:
        t = ranked(t, len(x.shape))
        return t * fan if t.shape[-1] == 1 else t.sum(-1, keepdim=True)

    def given(t: Tensor, weight: Tensor) -> Tensor:
        t = ranked(t, len(x.shape))
        matrix = weight.mean(0) if weight.dim() > 2 else weight
        return F.linear(t.expand(*t.shape[:-1], fan), matrix.T if flipped else matrix)

    roles = (*x.roles[:-1], R.single(call.shape[-1], "channel"))
    return Operator(variance, lambda pair, _: variance(pair), variance, given, (), roles)


def convolution(call: Call, x: Signal, w: Signal) -> Operator:
    """Any convolution: channels are summed within groups, then one kernel runs over the map."""
    spread = ranked((w.second - w.mean**2).clamp_min(0.0), len(w.shape)).mean(dim=(0, 1), keepdim=True)
    taps = spread.expand(1, 1, *w.shape[2:])
    average = taps.mean()
    taps = taps / average if bool(average > 0) else torch.ones_like(taps)
    g = Geometry(call.op, call.node.arguments, x.shape, call.shape, taps)
    return Operator(
        g.variance,
        g.shared,
        g.beside,
        g.given,
        g.stride,
        _roles(x, call.shape),
        g.fold,
        g.taps_in_use,
        g.meetings if g.groups > 1 and not g.transposed else None,  # a dense one is taken as wide: a Gaussian
    )


def _roles(x: Signal, shape: Sequence[int]) -> R.Roles:
    """A convolution makes channels and positions; one filter that runs over neighbouring channels (ECA) makes channels alone."""
    along: list[R.Role] = [
        "channel" if x.shape[1] == 1 and R.is_all(axis, "channel") else "position" for axis in x.roles[2:]
    ]
    kernel = (R.single(n, role) for n, role in zip(shape[2:], along, strict=True))
    return (x.roles[0], R.single(shape[1], "channel"), *kernel)


def _alive(second: Tensor) -> Tensor:
    """1 where a signal comes in, 0 where padding put a zero (1 everywhere if nothing comes in at all)."""
    alive = (second > 0).to(second.dtype)
    return alive if bool(alive.any()) else torch.ones_like(second)


def weight_argument(node: Node) -> int | None:
    """Return the value that stands where a weight would, or None for other ops."""
    w = node.arguments.get(WEIGHT.get(node.op, "weight")) if node.op in OPERATORS else None
    return w.id if isinstance(w, Ref) else None


def input_argument(node: Node) -> int | None:
    """Return the value that a weight op multiplies, or None for other ops."""
    x = node.arguments.get(INPUT.get(node.op, "input")) if node.op in OPERATORS else None
    return x.id if isinstance(x, Ref) else None


def is_weight_op(node: Node, signals: Mapping[int, Signal]) -> bool:
    """Say whether a node multiplies its input by a weight."""
    w, x = weight_argument(node), input_argument(node)
    if w is None or x is None or w not in signals or x not in signals:
        return False
    return node.op not in ("matmul", "mm") or signals[w].knob is not None


OPERATORS: dict[str, Callable[[Call, Signal, Signal], Operator]] = {
    "_grouped_mm": linear,
    "addmm": linear,
    "conv1d": convolution,
    "conv2d": convolution,
    "conv3d": convolution,
    "conv_transpose1d": convolution,
    "conv_transpose2d": convolution,
    "conv_transpose3d": convolution,
    "convolution": convolution,
    "linear": linear,
    "matmul": linear,
    "mm": linear,
}
INPUT = {"_grouped_mm": "self", "addmm": "mat1", "matmul": "self", "mm": "self"}
WEIGHT = {"_grouped_mm": "mat2", "addmm": "mat2", "matmul": "other", "mm": "mat2"}
CHANNEL_AXIS = {"linear": -1, "addmm": -1, "_grouped_mm": -1}
