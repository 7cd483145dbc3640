"""Rules for pointwise ops of one operand: the op's own function, its kinks, and closed forms where it is piecewise linear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stepzero.moments import _pointwise as P
from stepzero.moments._call import Call
from stepzero.moments._signal import Signal
from stepzero.network import Ref
from stepzero.theory._hermite import PiecewiseLinear

Arguments = dict[str, Any]


def pointwise(call: Call) -> Signal:
    """Extend the pending function of the operand by this op (Gaussian integrals when read)."""
    return P.apply(function_of(call, call.main), call.need(call.main))


def function_of(call: Call, operand: str) -> P.Pointwise:
    """Return the op as a function of one operand, all other arguments fixed.

    Raises:
        NoRuleError: at once, if another argument has no numbers; the function itself runs much later.
    """
    arguments = {k: v for k, v in call.node.arguments.items() if k != operand}
    for item in arguments.values():
        call.fill(item)
    key = f"{call.op}{sorted((k, str(v)) for k, v in arguments.items() if not isinstance(v, Ref) and v is not None)}"
    kinks = KINKS[call.op](call.node.arguments) if call.op in KINKS else ()
    linear = PIECEWISE[call.op](call.node.arguments) if call.op in PIECEWISE else None
    return P.Pointwise(key, lambda z: _run(call, operand, z), kinks, linear)


def _run(call: Call, operand: str, z: Tensor) -> Tensor:
    result: Tensor = call.run(**{operand: z})
    return result


def inverse_cosine(call: Call) -> Signal:
    """arccos and arcsin: their operand (a cosine in practice) stays within ±1, where its Gaussian is held."""
    phi = function_of(call, call.main)

    def held(z: Tensor) -> Tensor:
        inside = z.abs() < 1.0
        return torch.where(inside, phi.function(torch.where(inside, z, 0.0)), phi.function(z.detach().sign()))

    return P.apply(replace(phi, function=held, kinks=(-1.0, 1.0)), call.need(call.main))


def square_root(call: Call) -> Signal:
    """√z: its operand (1 - a² of a decay in practice) is never negative, so its Gaussian is held at 0 from below."""
    phi = function_of(call, call.main)

    def held(z: Tensor) -> Tensor:
        inside = z > 0.0
        return torch.where(inside, phi.function(torch.where(inside, z, 1.0)), 0.0)

    return P.apply(replace(phi, function=held, kinks=(0.0,)), call.need(call.main))


def prelu(call: Call) -> Signal:
    """PReLU with one slope: E[φ²] = (1 + a²)/2 (He et al. 2015, eq. 15); slopes that differ enter by their moments."""
    slope = call.need("weight")
    mean, second = slope.average(slope.mean), slope.average(slope.second)
    return P.apply(leaky(mean, max(0.0, second - mean**2)), call.need(call.main))


def rrelu(call: Call) -> Signal:
    """RReLU: a slope drawn from U(lower, upper) in training, its mean in eval mode."""
    low, high = float(call.argument("lower")), float(call.argument("upper"))
    spread = (high - low) ** 2 / 12 if call.argument("training") else 0.0
    return P.apply(leaky((low + high) / 2, spread), call.need(call.main))


def leaky(slope: float, spread: float = 0.0) -> P.Pointwise:
    """Return the leaky ReLU of a slope, or of slopes with this variance."""

    def function(z: Tensor) -> Tensor:
        return torch.where(z > 0, z, slope * z)

    linear = PiecewiseLinear(0.0, slope, (0.0,), (1.0 - slope,))
    return P.Pointwise(f"leaky({slope!r},{spread!r})", function, (0.0,), linear, spread)


def _clamp_kinks(a: Arguments) -> tuple[float, ...]:
    return tuple(float(a[k]) for k in ("min", "max", "min_val", "max_val") if isinstance(a.get(k), (int, float)))


def _clamp_linear(a: Arguments) -> PiecewiseLinear | None:
    low, high = a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        return PiecewiseLinear(float(low), 0.0, (float(low), float(high)), (1.0, -1.0))
    if isinstance(low, (int, float)):
        return PiecewiseLinear(float(low), 0.0, (float(low),), (1.0,))
    if isinstance(high, (int, float)):
        return PiecewiseLinear(0.0, 1.0, (float(high),), (-1.0,))
    return None


def _leaky_linear(a: Arguments) -> PiecewiseLinear:
    slope = float(a["negative_slope"])
    return PiecewiseLinear(0.0, slope, (0.0,), (1.0 - slope,))


KINKS: dict[str, Callable[[Arguments], tuple[float, ...]]] = {
    "abs": lambda _: (0.0,),
    "celu": lambda _: (0.0,),
    "clamp": _clamp_kinks,
    "clamp_max": _clamp_kinks,
    "clip": _clamp_kinks,
    "clamp_min": _clamp_kinks,
    "elu": lambda _: (0.0,),
    "hardshrink": lambda a: (-float(a["lambd"]), float(a["lambd"])),
    "hardsigmoid": lambda _: (-3.0, 3.0),
    "hardswish": lambda _: (-3.0, 3.0),
    "hardtanh": _clamp_kinks,
    "leaky_relu": lambda _: (0.0,),
    "log_sigmoid": lambda _: (0.0,),
    "relu": lambda _: (0.0,),
    "relu6": lambda _: (0.0, 6.0),
    "selu": lambda _: (0.0,),
    "sign": lambda _: (0.0,),
    "softplus": lambda a: (float(a["threshold"]) / float(a["beta"]),),
    "softshrink": lambda a: (-float(a["lambd"]), float(a["lambd"])),
    "threshold": lambda a: (float(a["threshold"]),),
}

PIECEWISE: dict[str, Callable[[Arguments], PiecewiseLinear | None]] = {
    "abs": lambda _: PiecewiseLinear(0.0, -1.0, (0.0,), (2.0,)),
    "clamp": _clamp_linear,
    "clamp_max": _clamp_linear,
    "clip": _clamp_linear,
    "clamp_min": _clamp_linear,
    "hardsigmoid": lambda _: PiecewiseLinear(0.0, 0.0, (-3.0, 3.0), (1 / 6, -1 / 6)),
    "hardtanh": _clamp_linear,
    "leaky_relu": _leaky_linear,
    "relu": lambda _: PiecewiseLinear(0.0, 0.0, (0.0,), (1.0,)),
    "relu6": lambda _: PiecewiseLinear(0.0, 0.0, (0.0, 6.0), (1.0, -1.0)),
}
