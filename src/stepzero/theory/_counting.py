"""The first half of an explanation: what the weight is as a matrix, its two fans, and why variances add."""

from __future__ import annotations

import math

from stepzero.reporting import Equation, Formula, Name, Number, Over, Step, Times

from ._subject import Chain


def matrix(chain: Chain) -> Step:
    """Weight tensor → matrix."""
    weight, taps = chain.weight, [axis.kernel for axis in chain.weight.axes]
    columns = weight.inputs * math.prod(taps)
    source = "He et al. 2015, §2.2, eq. 5"
    if not taps:
        why = f"Each of the {_count(weight.outputs, 'output')} is one row of W times the inputs, y = W x + b: a sum of {_count(columns, 'product')}."
        return Step("The weight is a matrix", why, (Equation((Name("columns"), Number(columns))),), source)
    kernel, channels = "×".join(map(str, taps)), _count(weight.inputs, "input channel")
    symbols = Times((*(Name("k") for _ in taps), Name("c")))
    equation = Equation((Name("columns"), symbols, _product([*taps, weight.inputs]), Number(columns)))
    if weight.axes[0].transposed:
        why = (
            f"A transposed convolution stamps every input through its kernel of {kernel} taps onto the output, and adds up where stamps "
            f"overlap. Seen from an output, it is still a row of W times a column of inputs: {channels} through at most {kernel} taps."
        )
        return Step("The weight is a matrix", why, (equation,), source)
    why = (
        f"A convolution is a matrix product at every position. Its {_count(weight.outputs, 'filter')} of {kernel} taps and {channels} are "
        f"the rows of a {weight.outputs} × {columns} matrix W. What meets W is one window of the input, {kernel} pixels of each channel, "
        f"written as one column of {_count(columns, 'number')}. So an output is one row times one column, y = W x + b: a sum of "
        f"{_count(columns, 'product')}, wherever the window stands."
    )
    return Step("The weight is a matrix", why, (equation,), source)


def fan_in(chain: Chain) -> Step:
    ratios = [float(axis.ratios[0]) for axis in chain.weight.axes]
    why = "fan_in counts the inputs that reach one output: the terms of that sum." + _why_uneven(chain, forward=True)
    return Step("fan_in: what one output hears", why, (_fan("in", ratios, chain.weight.inputs, chain.fans.fan_in),))


def fan_out(chain: Chain) -> Step:
    ratios = [float(axis.ratios[1]) for axis in chain.weight.axes]
    why = (
        "fan_out counts the outputs that one input reaches. In the backward pass the roles change: the gradient of an input is the sum "
        "over all outputs that it reached." + _why_uneven(chain, forward=False)
    )
    source = "He et al. 2015, §2.2, eq. 11"
    return Step(
        "fan_out: what one input says", why, (_fan("out", ratios, chain.weight.outputs, chain.fans.fan_out),), source
    )


def variance(chain: Chain) -> Step:
    """The sum's variance."""
    if chain.backward:
        why = (
            "Weights with mean zero, drawn independently of the gradient: each of the fan_out products adds Var[w] times the mean "
            "square of the gradient behind it. To hold the gradient's size, the product of the factors must be 1."
        )
        sides: tuple[Formula, ...] = (Name("E[Δx²]"), Times((Name("fan", "out"), Name("Var[w]"), Name("E[Δy²]"))))
        return Step("Variances add, also backwards", why, (Equation(sides),), "He et al. 2015, eq. 12")
    why = (
        "Weights with mean zero, drawn independently of the input: each of the fan_in products adds Var[w] times the mean square "
        "E[x²]. It is E[x²] and not Var[x]: x has come out of an activation, and its mean need not be 0."
    )
    sides = (Name("Var[y]"), Times((Name("fan", "in"), Name("Var[w]"), Name("E[x²]"))))
    return Step("Variances add", why, (Equation(sides),), "He et al. 2015, eq. 7")


def phases(chain: Chain) -> Step:
    forward = bool(chain.fans.fan_in_phases)
    phases = chain.fans.fan_in_phases if forward else chain.fans.fan_out_phases
    where = "outputs" if forward else "inputs (in the gradient)"
    spread = chain.fans.forward_spread if forward else chain.fans.backward_spread
    sides = (
        (Name("spread"), Number(spread))
        if math.isinf(spread)
        else (Name("spread"), Over(Number(max(phases)), Number(min(phases))), Number(spread))
    )
    why = (
        f"The stride does not divide the kernel, so neighbouring {where} are reached through different numbers of taps: a checkerboard. "
        "No single std is right for all of them; this one is right on average."
    )
    return Step("A checkerboard", why, (Equation(sides),))


def _fan(which: str, ratios: list[float], channels: int, fan: float) -> Equation:
    symbol = Name("fan", which)
    return Equation((symbol, _product([*ratios, channels]), Number(fan)) if ratios else (symbol, Number(fan)))


def _why_uneven(chain: Chain, *, forward: bool) -> str:
    """Say why the taps that count are not those of the kernel."""
    index = 0 if forward else 1
    if all(axis.ratios[index] == axis.kernel for axis in chain.weight.axes):
        return ""
    reasons = []
    if any(axis.stride > 1 for axis in chain.weight.axes):
        reasons.append("the stride leaves a part of the taps without a partner")
    if any(axis.size is not None for axis in chain.weight.axes):
        reasons.append("at the border of the map some taps fall outside, or an input is read fewer times")
    return f" Along an axis the average is not the kernel's size, because {' and '.join(reasons)}."


def _product(factors: list[float]) -> Times:
    return Times(tuple(Number(factor) for factor in factors))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
