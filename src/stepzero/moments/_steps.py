"""Rules for functions that jump: floor, round, remainders; and coins that are tossed as the floor of uniform noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from stepzero.moments import _activations as A
from stepzero.moments import _pointwise as P
from stepzero.moments._call import Call, Rule
from stepzero.moments._gates import pointwise
from stepzero.moments._signal import Moments, Signal
from stepzero.network import Ref

REACH = 24  # jumps on either side of 0 that the integrals are cut at; where a signal reaches farther, they are small beside it
UNIFORM = frozenset(("rand", "rand_like", "uniform"))


def jumping(offset: float) -> Callable[[Call], Signal]:
    """Make the rule of a function that jumps at every whole number plus an offset (no gradient passes, as in torch)."""

    def rule(call: Call) -> Signal:
        x = call.need(call.main)
        return P.apply(replace(A.function_of(call, call.main), kinks=_jumps(1.0, offset)), x)

    return rule


def floored(call: Call) -> Signal:
    """floor; of c + U(0, 1) it is a coin: ⌊c⌋ or the next number, with E = c (stochastic depth in transformers)."""
    chance = _chance(call)
    if chance is None:
        return jumping(0.0)(call)
    x, low = call.need(call.main), math.floor(chance)
    second = low * low + (chance - low) * (2 * low + 1)
    m = x.moments
    scatter = (second - chance * chance) / (m.second - m.mean**2).clamp_min(1e-300)
    pairs = (chance * chance + scatter * (t - m.mean**2) for t in m[1:])
    return Signal(x.shape, x.roles, Moments(0.0 * m.mean + chance, *pairs))


def _chance(call: Call) -> float | None:
    """Return c where the operand is c plus noise that is uniform between 0 and 1."""
    maker = call.graph.producer(call.node.inputs[0])
    if maker is None or maker.op != "add":
        return None
    sides = [maker.arguments.get(name) for name in ("self", "other")]
    noise = [call.graph.producer(side.id) for side in sides if isinstance(side, Ref)]
    numbers = [float(side) for side in sides if isinstance(side, (int, float))]
    if len(noise) != 1 or len(numbers) != 1 or noise[0] is None or noise[0].op not in UNIFORM:
        return None
    low, high = (noise[0].arguments.get(name) for name in ("from", "to"))
    return numbers[0] if low in (None, 0, 0.0) and high in (None, 1, 1.0) else None


def remainder(call: Call) -> Signal:
    """x mod n, which jumps at every multiple of n."""
    number = call.argument("other")
    if isinstance(number, Ref) or not number:
        return pointwise(call)
    return P.apply(replace(A.function_of(call, call.main), kinks=_jumps(abs(float(number)), 0.0)), call.need(call.main))


def _jumps(step: float, offset: float) -> tuple[float, ...]:
    return tuple(step * (n + offset) for n in range(-REACH, REACH + 1))


STEPS: dict[str, Rule] = {
    "floor": floored,
    **dict.fromkeys(("ceil", "frac", "trunc"), jumping(0.0)),
    "round": jumping(0.5),
    **dict.fromkeys(("fmod", "remainder"), remainder),
}
