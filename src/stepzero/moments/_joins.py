"""Rules for ops of two operands: one function of a common Gaussian where they share it, independent sums and products where not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypedDict

import torch
from torch import Tensor

from stepzero.moments import _pointwise as P
from stepzero.moments import _roles as R
from stepzero.moments._activations import KINKS
from stepzero.moments._call import Call
from stepzero.moments._hidden import hidden, seen
from stepzero.moments._places import of_others
from stepzero.moments._signal import Knob, Moments, Part, Signal, Tails, placed, widen
from stepzero.moments._stream import Stream
from stepzero.moments._weights import without_mean
from stepzero.network import Ref
from stepzero.theory._hermite import PiecewiseLinear

Combine = Callable[[Call, Signal, Signal], Signal]


def binary(independent: Combine) -> Callable[[Call], Signal]:
    """Make the rule of a two-operand op from its law for independent operands.

    With a number, or with operands that are functions of the same Gaussian (x·sigmoid(x), x + x), the op is
    pointwise and nothing is assumed.
    """

    def rule(call: Call) -> Signal:
        names = [k for k, v in call.node.arguments.items() if isinstance(v, Ref)]
        left, right = (call.operand(name) for name in (names + names)[:2])
        if len(names) == 1 or _scalar(right) or _scalar(left):
            return _with_number(call, names)
        root, f = P.root_of(left)
        other, g = P.root_of(right)
        if root is other:
            return P.pending(root, _composed(call, names, f, g))
        shape = call.shape
        roles = R.broadcast(*sorted((left.roles, right.roles), key=len, reverse=True))
        return independent(call, *(widen(placed(x, roles), shape, roles) for x in (left, right)))

    return rule


def _scalar(x: Signal) -> bool:
    return x.known is not None and x.known.numel() == 1


def _with_number(call: Call, names: list[str]) -> Signal:
    """An op of one signal and numbers: pointwise; multiples of a weight keep its knob."""
    numbers = {n: call.operand(n).known for n in names if _scalar(call.operand(n))}
    main = next(n for n in names if n not in numbers)
    x = call.need(main)
    if len(x.shape) < len(call.shape):  # a number of shape (1,) lends a scalar its axis
        x = widen(x, call.shape, ((),) * (len(call.shape) - len(x.shape)) + x.roles)
    fixed = {n: t.reshape(()) for n, t in numbers.items() if t is not None}
    kinks = KINKS[call.op](call.node.arguments) if call.op in KINKS else ()

    def function(z: Tensor) -> Tensor:
        result: Tensor = call.run(**{main: z}, **fixed)
        return result

    key = f"{call.op}[{call.node.arguments}]" + str({n: float(t) for n, t in fixed.items()})
    phi = P.Pointwise(key, function, kinks)
    if x.knob is not None or x.source is None:
        straight = _affine(phi, x)
        if straight is not None:
            return straight
    return P.apply(phi, x)


def _affine(phi: P.Pointwise, x: Signal) -> Signal | None:
    """Return s·x + t with exact moments, if the function is that (a weight stays a weight, a Gaussian a Gaussian)."""
    at = torch.tensor([-1.5, 0.0, 1.0, 3.0], dtype=torch.float64)
    y = phi.function(at).detach().to(torch.float64)
    t, s = float(y[1]), float(y[2] - y[1])
    if torch.equal(y, at):  # a sum that starts at 0
        return x
    if not torch.allclose(y, s * at + t, rtol=1e-12, atol=1e-12):
        return None

    def straight(m: Moments) -> Moments:
        return Moments(s * m.mean + t, *(s * s * q + 2 * s * t * m.mean + t * t for q in m[1:]))

    knob = Knob(x.knob.parameter, x.knob.factor * s * s) if x.knob and not t else None
    tangent = None if x.tangent is None else x.tangent.times(s * s)
    if x.knob is not None:
        return Signal(x.shape, x.roles, straight(x.moments), tangent, knob=knob, centred=x.centred and not t)
    line = replace(phi, kinks=(), linear=PiecewiseLinear(t, s))
    return P.pending(x, line, (straight(x.moments), tangent))  # x stays the root: x·sigmoid(2x) is one function of it


def _composed(call: Call, names: list[str], f: P.Pointwise, g: P.Pointwise) -> P.Pointwise:
    """The op as one function of the common root."""

    def function(z: Tensor) -> Tensor:
        arguments: dict[str, Any] = {names[0]: f.function(z), names[-1]: g.function(z)}
        result: Tensor = call.run(**arguments)
        return result

    return P.Pointwise(f"{call.op}({f.key},{g.key})", function, tuple(sorted({*f.kinks, *g.kinks})))


def add(call: Call, a: Signal, b: Signal) -> Signal:
    """E[(a ± b)²] = E[a²] + E[b²] ± 2 E[a]E[b]: exact where one operand ends in a zero-mean linear map."""
    alpha = float(call.argument("alpha") or 1.0) * (-1.0 if call.op in ("sub", "rsub") else 1.0)
    m, n = a.moments, b.moments
    here = 2 * alpha * m.mean * n.mean
    there = alpha * (m.mean * of_others(n.mean, b.roles) + n.mean * of_others(m.mean, a.roles))
    crosses = (here, here, there, here, there)
    pairs = (p + alpha**2 * q + c for p, q, c in zip(m[1:], n[1:], crosses, strict=True))
    moments = Moments(m.mean + alpha * n.mean, *pairs)
    tangent = summed([(a.tangent, 1.0), (b.tangent, alpha**2)])
    parts = [part for x, factor in ((a, 1.0), (b, alpha)) if (part := _part(x, factor)) is not None]
    parts = parts if any(part.mean or part.variance for part in parts) else []
    stream, tails = Stream(_sum_skewness(a, b, alpha)), _sum_tails(a, b, alpha)
    return Signal(a.shape, a.roles, moments, tangent, stream=stream, parts=parts, tails=tails)


def _part(x: Signal, factor: float) -> Part | None:
    """What an operand adds to the change of a sum; the change that two activations brought meets the last one only."""
    if x.tangent is None:
        return None
    stream = x.stream.times(factor)
    return Part(x.tangent.times(factor**2), stream.live_mean, stream.live_variance)


def _sum_skewness(a: Signal, b: Signal, alpha: float) -> float:
    """Third central moments of independent operands add."""
    sides = [(math.copysign(1.0, factor), x, max(0.0, x.variance) * factor**2) for x, factor in ((a, 1.0), (b, alpha))]
    variance = sum(v for *_, v in sides)
    if not 0.0 < variance < math.inf:
        return 0.0
    return sum(sign * x.skewness * math.pow(v / variance, 1.5) for sign, x, v in sides)


def _sum_tails(a: Signal, b: Signal, alpha: float) -> Tails:
    """Fourth cumulants of independent operands add, alone and in pairs."""
    v, w = max(0.0, a.variance), max(0.0, b.variance) * alpha**2
    if not 0.0 < v + w < math.inf:
        return Tails()
    p, q = (v / (v + w)) ** 2, (w / (v + w)) ** 2
    return Tails(*(p * s + q * t for s, t in zip(a.tails, b.tails, strict=True)))


def summed(parts: Sequence[tuple[Moments | None, float | Moments]]) -> Moments | None:
    """Add small changes, each times a number or times factors of its own for every moment."""
    total: Moments | None = None
    for change, factor in parts:
        if change is None:
            continue
        factors: Sequence[float | Tensor] = factor[1:] if isinstance(factor, Moments) else (factor,) * 5
        here = Moments(change.mean, *(t * f for t, f in zip(change[1:], factors, strict=True)))
        total = here if total is None else Moments(*(p + q for p, q in zip(total, here, strict=True)))
    return total


def multiply(call: Call, a: Signal, b: Signal) -> Signal:
    """E[(ab)²] = E[a²]E[b²] for independent operands; each gradient is scaled by the other's moments.

    A gate computed from its own input is taken as independent of it: right for wide squeeze-excite gates. Shares of a
    softmax over channels add to 1 where these are summed: only what differs between the channels meets their scatter.
    """
    m, n = a.moments, b.moments
    shares = [x.centred and x.knob is None for x in (a, b)]
    common = m.mean.square() * n.mean.square() if any(shares) else 0.0
    seen_by_a, seen_by_b = (
        without_mean(y.moments, y.roles) if share else y.moments for y, share in zip((b, a), shares, strict=True)
    )
    p, q = (m, seen_by_a) if shares[0] else (seen_by_b, n)
    moments = Moments(m.mean * n.mean, *(s * t + common for s, t in zip(p[1:], q[1:], strict=True)))
    tangent = summed([(a.tangent, seen_by_a), (b.tangent, seen_by_b)])
    return Signal(a.shape, a.roles, moments, tangent, knob=_product_knob(a, b), **_product_shape(a, b))


class _Shape(TypedDict, total=False):
    stream: Stream
    tails: Tails
    parts: list[Part]


def _product_shape(a: Signal, b: Signal) -> _Shape:
    """A signal times a number or a scale parameter keeps its shape; other products are taken as symmetric."""
    for x, factor in ((a, b), (b, a)):
        steady, square = factor.average(factor.mean), factor.average(factor.second)
        if (any(x.stream) or x.parts or any(x.tails)) and abs(steady) > 0.99 * square**0.5:
            parts = [part.times(steady) for part in x.parts]
            parts = parts if factor.tangent is None else []
            return {"stream": x.stream.times(steady), "tails": x.tails, "parts": parts}
    for x, gate in ((a, b), (b, a)):
        if not bool(x.mean.any()) and 2.0 * gate.average(gate.mean) ** 2 > gate.average(gate.second) > 0.0:
            return {"tails": _gated_tails(x, gate)}
    return {}


def _gated_tails(x: Signal, gate: Signal) -> Tails:
    """E[x²x'²]E[g²g'²] of a centred signal and a gate, less what a Gaussian has: places that share a gate stray together.

    ReLU behind a sum with it (SE-ResNeXt) leaves 1.2 times what a Gaussian does in common to the places of one input.
    """
    mean, second, q = gate.average(gate.mean), gate.average(gate.second), x.average(x.second)
    v = max(0.0, second - mean**2)
    third, fourth = 4.0 * mean * gate.skewness * v**1.5, (3.0 + gate.stream.kurtosis) * v**2
    spread = (mean**4 + 6.0 * mean**2 * v + third + fourth) / second**2 - 1.0
    found = []
    for t, own, other in zip(x.tails, x.moments[1:], gate.moments[1:], strict=True):
        share = (gate.average(other) - mean**2) / v if v else 0.0
        usual = 1.0 + 2.0 * (x.average(own) / q) ** 2 if q else 1.0
        found.append((usual + t) * (1.0 + spread * share) - usual)
    return Tails(*found)


def _product_knob(a: Signal, b: Signal) -> Knob | None:
    """A weight times a constant keeps its knob."""
    for one, other in ((a, b), (b, a)):
        if one.knob is not None and other.known is not None:
            return Knob(one.knob.parameter, one.knob.factor * other.average(other.second))
    return None


def divide(call: Call, a: Signal, b: Signal) -> Signal:
    """a / b with the denominator taken at its root mean square (it is a norm or a count in practice)."""
    inverse = 1.0 / b.second.clamp_min(1e-300)
    moments, tangent = a.mapped(lambda m: m.times(inverse))
    return Signal(a.shape, a.roles, moments, tangent)


def larger(call: Call, a: Signal, b: Signal) -> Signal:
    """max(a, b) of independent Gaussians (Clark 1961); pairs as first-order maps of their own covariances.

    Where one operand is hidden (minus infinity), the other one is the maximum.
    """
    sign = -1.0 if call.op in ("minimum", "min", "fmin") else 1.0
    first, other = hidden(a, sign), hidden(b, sign)
    m, n = seen(a.moments, first), seen(b.moments, other)
    va, vb = m.second - m.mean**2, n.second - n.mean**2
    theta = (va + vb).clamp_min(1e-300).sqrt()
    t = sign * (m.mean - n.mean) / theta
    p = torch.where(first, 0.0, torch.where(other, 1.0, torch.special.ndtr(t)))
    bell = torch.where(first | other, 0.0, torch.exp(-(t**2) / 2) / math.sqrt(2 * math.pi))
    mean = m.mean * p + n.mean * (1 - p) + sign * theta * bell
    mean = torch.where(first & other, -sign * math.inf, mean)
    second = m.second * p + n.second * (1 - p) + sign * (m.mean + n.mean) * theta * bell
    pairs = (
        mean**2 + p**2 * (x - m.mean**2) + (1 - p) ** 2 * (y - n.mean**2) for x, y in zip(m[2:], n[2:], strict=True)
    )
    shares = [Moments(mean, s, *(s**2,) * 4) for s in (p, 1 - p)]
    tangent = summed(list(zip((a.tangent, b.tangent), shares, strict=True)))
    return Signal(a.shape, a.roles, Moments(mean, second, *pairs), tangent)


def glu(call: Call) -> Signal:
    """a·sigmoid(b) for the two halves of an axis, which are independent channels (Dauphin et al. 2017)."""
    x = call.need("self")
    d = int(call.argument("dim")) % len(x.shape)
    n = x.shape[d] // 2
    roles = tuple(R.resize(axis, n) if i == d else axis for i, axis in enumerate(x.roles))

    def half(start: int) -> Signal:
        def cut(m: Moments) -> Moments:
            return m.ranked(len(x.shape)).each(lambda t: t if t.shape[d] == 1 else t.narrow(d, start, n))

        return Signal(call.shape, roles, *x.mapped(cut))

    return multiply(call, half(0), P.apply(P.Pointwise("sigmoid", torch.sigmoid), half(n)))
