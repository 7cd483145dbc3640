"""Rules for ops that multiply by a weight: linear maps and convolutions of every kind.

For iid zero-mean weights E[y²] = Var[w] · (the same op with a ones kernel)(E[x²]), whatever the input's
correlations (He et al. 2015, eq. 7, with E[x²] kept as a map). So the op itself runs on the moment map and
borders, strides, dilation, groups and transposition come out exact, with no case analysis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Load
from stepzero.moments._geometry import Geometry
from stepzero.moments._meetings import Meetings
from stepzero.moments._places import centred, shifted
from stepzero.moments._signal import Moments, Part, Signal, Tails, placed, ranked
from stepzero.moments._tails import of_weights
from stepzero.network import Node, Ref
from stepzero.theory._extremes import mean_inverse


@dataclass(frozen=True)
class Operator:
    """A linear op as maps of lean tensors: for independent weights of variance 1, and for a given weight."""

    variance: Callable[[Tensor], Tensor]  # x² map → y² map
    shared: Callable[[Tensor, Tensor | None], Tensor]  # (pair map, x² map) → pair map at any other output position
    beside: Callable[[Tensor], Tensor]  # pair map of neighbours → the same for the output
    given: Callable[[Tensor, Tensor], Tensor]  # (map, weight) → the op itself
    stride: Sequence[int]  # steps from an output to its neighbour, one for each kernel axis
    roles: R.Roles
    fold: Callable[[Tensor], Tensor] = lambda t: t  # map → the same with channels averaged that an output meets alike
    taps: Callable[[], float] = lambda: 1.0  # kernel positions, counted by how often they meet an input
    meetings: Callable[[], Meetings] | None = None  # what two outputs have in common, per input channel


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
        call.shape, op.roles, moments, tangent, unevenness=_unevenness(m, w, op, fan), tails=_tails(x, w, op, fan),
        parts=_by_few(x, w, op, moments, tangent, fan),
    )  # fmt: skip
    bias = call.signal("bias") if "bias" in call.node.arguments else call.signal("self")
    return y if bias is None or bias is x else _biased(y, bias, CHANNEL_AXIS.get(call.op, 1))


class Weight:
    """What an op with this weight does to moments, and to those of a small change."""

    def __init__(self, op: Operator, w: Signal, x: Signal) -> None:
        self.op, self.fade, self.roles = op, fading(x), x.roles
        spread = (w.second - w.mean**2).clamp_min(0.0)
        self.variance = w.average(spread)
        self.fixed = w.mean.expand(w.shape) if bool(w.mean.any()) else None
        self.fold = op.fold if self.fixed is None else lambda t: t

    def __call__(self, m: Moments, *, profile: Tensor | None) -> Moments:
        """Return the output's moments; `profile` says how the input's scale varies over the map."""
        op, v = self.op, self.variance
        if self.fixed is not None and not v:
            return self._fixed_map(m, self.fixed)
        second, elsewhere = op.variance(m.second) * v, op.shared(m.elsewhere, profile) * v
        across = second if m.across is m.second else op.variance(m.across) * v
        apart = elsewhere if m.apart is m.elsewhere else op.shared(m.apart, profile) * v
        y = Moments(torch.zeros_like(second), second, op.beside(m.near) * v, elsewhere, across, apart)
        if self.fixed is None:
            return y
        return Moments(*(a + b for a, b in zip(y, self._fixed_map(m, self.fixed), strict=True)))

    def _fixed_map(self, m: Moments, w: Tensor) -> Moments:
        """Take the mean through the op by itself: a place and another one have means of their own."""
        y = fixed_map(self.op, centred(m, self.roles), w, self.fade)
        return shifted(y, self.op.given(m.mean, w), self.op.roles)


def fixed_map(op: Operator, m: Moments, w: Tensor, fade: float) -> Moments:
    """Return the moments of Σ w x for given numbers w and a centred x: private parts add by w², what all places share by (Σ w)².

    With other channels independent, E[(Σ w x)²] = Σ w²(q - n) + Σ_tt' w w' c^(|t-t'|-1) (n - e) + (Σ_t w)² e: what
    neighbours share beyond distant places, n - e, fades by c from step to step. Tap sums are those of the whole kernel,
    so a zero-padded border is an approximation (padding by a pad op is exact).
    """
    axes = tuple(range(2, w.dim()))
    sums = w.sum(dim=axes, keepdim=True) if axes else w
    private, beyond = op.given(m.second - m.near, w**2), m.near - m.elsewhere
    elsewhere, apart = op.given(m.elsewhere, w * sums), op.given(m.apart, w * sums)
    second = private + op.given(beyond, w * _meeting(w, [0] * len(axes), fade)) + elsewhere
    steps = [[s if i == d else 0 for i in range(len(axes))] for d, s in enumerate(op.stride)]
    beside = sum(_meeting(w, step, fade) for step in steps) / len(steps) if steps else w
    near = private * _overlap(w, op.stride) + op.given(beyond, w * beside) + elsewhere
    across = op.given(m.across - m.apart, w**2) + apart
    return Moments(m.mean, second, near, elsewhere, across, apart)


def fading(x: Signal) -> float:
    """Return c, by which what neighbours share beyond distant places fades from step to step."""
    m = x.moments
    q, near, elsewhere = (x.average(t) for t in (m.second, m.near, m.elsewhere))
    return min(max((near - elsewhere) / (q - elsewhere), 1e-6), 1.0) if q - elsewhere > 1e-9 * q else 1.0


def _meeting(w: Tensor, steps: Sequence[int], fade: float) -> Tensor:
    """Return Σ_t' w_t' g(|t - t' - steps|) for each tap t, with g(0) = 1 and g(n) = cⁿ⁻¹ in l1 distance."""
    all_taps, own = w, w
    for d, s in enumerate(steps, start=2):
        line = torch.arange(w.shape[d], dtype=w.dtype)
        lag = (line[:, None] - line - s).abs()
        all_taps = torch.movedim(torch.movedim(all_taps, d, -1) @ (fade**lag).T, -1, d)
        own = torch.movedim(torch.movedim(own, d, -1) @ (lag == 0).to(w.dtype).T, -1, d)
    return own + (all_taps - own) / fade


def _overlap(w: Tensor, stride: Sequence[int]) -> float:
    """Return the share of Σ w² that the outputs of two neighbouring positions have in common, over the axes."""
    total = float((w**2).sum())
    products = []
    for d, s in enumerate(stride, start=2):
        left = w.shape[d] - s
        products.append(float((w.narrow(d, s, left) * w.narrow(d, 0, left)).sum()) if left > 0 else 0.0)
    return sum(products) / len(products) / total if products and total else 0.0


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


def _unevenness(m: Moments, w: Signal, op: Operator, fan: float) -> float:
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


def _by_few(x: Signal, w: Signal, op: Operator, y: Moments, change: Moments | None, fan: float) -> list[Part]:
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


def _tails(x: Signal, w: Signal, op: Operator, fan: float) -> Tails:
    """Return how an output's squares stray together where its weights are few: in groups, whose fans do not grow with width."""
    if w.known is not None or op.meetings is None or not 0.0 < fan < 200.0:
        return Tails()
    return of_weights(x, op.meetings())


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
