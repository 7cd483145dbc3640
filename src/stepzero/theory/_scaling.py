"""The second half of an explanation: the gain, the std, the bound, and what other choices would give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from stepzero.reporting import Equation, Formula, Name, Number, Over, Plus, Root, Square, Step, Times

from ._gains import Activation
from ._subject import Chain

_STD, _GAIN = Name("std"), Name("gain")
_LEFT, _SLOPE_LEFT = Name("E[φ(z)²]"), Name("E[φ'(z)²]")
_TRUNCATED = 0.8796256610342398  # std of a standard normal that is cut at ±2


def gain_of(chain: Chain) -> Step:
    """What φ leaves, and its inverse."""
    found = chain.activation
    left: tuple[Formula, ...] = (_LEFT, *_closed_form(found), Number(found.second_moment))
    equations = [
        Equation(left),
        Equation(
            (
                _GAIN,
                Over(Number(1), Root(_LEFT)),
                Over(Number(1), Root(Number(found.second_moment))),
                Number(found.gain),
            )
        ),
    ]
    why = _why_gain(found)
    if chain.backward and abs(found.gradient_gain / found.gain - 1) > 1e-9:
        why += (
            " For the backward pass the exact factor would come from the derivative; common practice, and this chain, takes the "
            "forward gain for both."
        )
        equations.append(Equation((Over(Number(1), Root(_SLOPE_LEFT)), Number(found.gradient_gain))))
    published = (
        "He et al. 2015, eq. 8, 15" if _negative_slope(found) is not None else "He et al. 2015, eq. 8, with another φ"
    )
    return Step(f"The gain: what {found.name} leaves, and where the 2 comes from", why, tuple(equations), published)


def std(chain: Chain) -> Step:
    which = _which(chain.mode)
    sides = (
        _STD,
        Over(_GAIN, Root(which)),
        Over(Number(chain.activation.gain), Root(Number(chain.fan))),
        Number(chain.std),
    )
    if chain.mode in _AVERAGES:
        fan_in, fan_out = Number(chain.fans.fan_in), Number(chain.fans.fan_out)
        average = Equation((which, _AVERAGES[chain.mode](fan_in, fan_out), Number(chain.fan)))
        why = (
            "The sum multiplies the mean square by fan_in · Var[w] going forward, and by fan_out · Var[w] going back. "
            f"With Var[w] = gain²/{chain.mode} neither is held exactly, and both miss by little where the fans are close."
        )
        return Step("The std between the two", why, (average, Equation(sides)), "Glorot & Bengio 2010, eq. 12")
    why = (
        f"The sum multiplies the mean square by {chain.mode} · Var[w], the activation by 1/gain². With Var[w] = gain²/{chain.mode} "
        f"the two cancel, and the {'gradient' if chain.backward else 'signal'} keeps its size from layer to layer."
    )
    equation = "eq. 14" if chain.backward else "eq. 10"
    return Step(
        f"The std that holds the {'gradient' if chain.backward else 'signal'}",
        why,
        (Equation(sides),),
        f"He et al. 2015, {equation}",
    )


def bound(chain: Chain) -> Step:
    """From the std to the distribution."""
    if chain.distribution == "normal":
        return Step("The distribution", "A normal distribution takes the std as it is: N(0, std²).")
    if chain.distribution == "truncated_normal":
        parent = Equation(
            (
                Name("σ"),
                Over(_STD, Number(_TRUNCATED)),
                Over(Number(chain.std), Number(_TRUNCATED)),
                Number(chain.std / _TRUNCATED),
            )
        )
        why = "Cutting a normal at ±2σ takes its tails, and with them a part of its std. To be left with std, start from a wider one."
        return Step("The distribution", why, (parent,))
    bound = math.sqrt(3) * chain.std
    square = Equation((Name("Var[U(−b, b)]"), Over(Square(Name("b")), Number(3))))
    sides = (Name("b"), Times((Root(Number(3)), _STD)), Times((Root(Number(3)), Number(chain.std))), Number(bound))
    why = "A uniform distribution on (−b, b) has the variance b²/3, not b²: most of it lies well inside. So the bound is √3 times the std."
    return Step("The bound: where √3 comes from", why, (square, Equation(sides)))


def other_fan(chain: Chain) -> Step:
    """What the other choice would give."""
    other = "fan_in" if chain.mode != "fan_in" else "fan_out"
    fan = chain.fans.of(other)
    std = chain.activation.gain / math.sqrt(fan)
    sides = (Name(f"std with {other}"), Over(Number(chain.activation.gain), Root(Number(fan))), Number(std))
    ratio = Equation(
        (Over(Name("this std"), Name("that std")), Over(Number(chain.std), Number(std)), Number(chain.std / std))
    )
    why = (
        "fan_in holds the signal on its way forward, fan_out the gradient on its way back; a layer whose two fans differ cannot have both. "
        "Either is enough to train: through a stack of plain convolutions the factors of the pass that is not held cancel, layer "
        "by layer, down to a ratio of the first width and the last."
    )
    return Step(f"Had one chosen {other}", why, (Equation(sides), ratio), "He et al. 2015, §2.2, after eq. 14")


def torch_default(chain: Chain) -> Step:
    """What nn.Linear and nn.Conv do by themselves."""
    weight, found = chain.weight, chain.activation
    transposed = bool(weight.axes) and weight.axes[0].transposed
    fan = (weight.outputs if transposed else weight.inputs) * math.prod(axis.kernel for axis in weight.axes)
    bound, std, symbol = 1 / math.sqrt(fan), 1 / math.sqrt(3 * fan), Name("torch's fan")
    kept = Over(Times((Number(chain.fans.fan_in), Number(found.second_moment))), Times((Number(3), Number(fan))))
    equations = (
        Equation((Name("bound"), Over(Number(1), Root(symbol)), Over(Number(1), Root(Number(fan))), Number(bound))),
        Equation((_STD, Over(Number(1), Root(Times((Number(3), symbol)))), Over(Number(1), Root(Times((Number(3), Number(fan))))), Number(std))),
        Equation((Over(Name("this std"), Name("torch's std")), Over(Number(chain.std), Number(std)), Number(chain.std / std))),
        Equation((Name("kept per layer"), Over(Times((Name("fan", "in"), _LEFT)), Times((Number(3), symbol))), kept,
                  Number(chain.fans.fan_in * found.second_moment / (3 * fan)))),
    )  # fmt: skip
    why = (
        "torch's layers call kaiming_uniform_ with a = √5, for historical reasons. Then 2/(1 + a²) is 1/3, and the bound is 1/√fan. "
        f"Followed by {found.name}, a layer then keeps only this share of the mean square."
    )
    if fan != chain.fans.fan_in:
        why += f" torch reads its fan, {fan}, off the shape alone, blind to what the geometry does."
    return Step(
        "What torch does unasked", why, equations, "reset_parameters of torch.nn.Linear and of the convolutions"
    )


def depth(chain: Chain) -> Step:
    found = chain.activation
    sides = (Name("χ"), Number(found.chi))
    return Step(
        "What follows for depth",
        f"{found.name} is {found.stability}",
        (Equation(sides),),
        "Poole et al. 2016; Schoenholz et al. 2017",
    )


def _why_gain(found: Activation) -> str:
    slope = _negative_slope(found)
    if slope is None:
        return (
            f"For a preactivation z with mean 0 and variance 1, {found.name} leaves this mean square (an integral over the bell curve). "
            "For relu it would be one half, which is where Kaiming's 2 comes from; the gain is the root of what takes its place here."
        )
    if slope == 1:
        return "Nothing follows that would lose signal, so nothing has to be made up for: the 2 of relu is a 1 here, as in Xavier's rule."
    if slope == 0:
        return (
            "relu sets the negative half of a symmetric signal to 0, so half of the mean square is left, and the weights have to double "
            "it again: that is the 2 in √(2/fan). Without an activation it would be 1."
        )
    return (
        f"The negative half of a symmetric signal is multiplied by a = {slope:g}, so it keeps a² of its mean square: (1 + a²)/2 is left in "
        "all. With a = 0 this is relu and the 2 stays 2; with a = 1 nothing is lost and the 2 becomes 1."
    )


def _closed_form(found: Activation) -> tuple[Formula, ...]:
    slope = _negative_slope(found)
    return () if slope is None else (Over(Plus((Number(1), Square(Number(slope)))), Number(2)),)


def _negative_slope(found: Activation) -> float | None:
    """The slope a of a (leaky) ReLU or of nothing at all; None for any other activation."""
    function = found.unit.function
    name = function.name.partition("(")[0] if function else ""
    if name not in ("identity", "relu", "leaky_relu") or function is None or function.derivative is None:
        return None
    return float(function.derivative(np.array([-1.0]))[0])


def _which(mode: str) -> Name:
    return Name("fan", mode.removeprefix("fan_"))


_AVERAGES: Mapping[str, Callable[[Number, Number], Formula]] = MappingProxyType(
    {
        "fan_avg": lambda fan_in, fan_out: Over(Plus((fan_in, fan_out)), Number(2)),
        "fan_geo_avg": lambda fan_in, fan_out: Root(Times((fan_in, fan_out))),
    }
)
