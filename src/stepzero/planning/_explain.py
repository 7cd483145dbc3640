"""Why a planned parameter has its law: what reaches it, what it is held to, and what follows."""

from __future__ import annotations

import math

from stepzero.reporting import Equation, Name, Number, Over, Root, Square, Step, Times, shape
from stepzero.theory import Explanation

from ._entry import Entry

FAN_IN, STD, GAIN = Name("fan", "in"), Name("std"), Name("gain")
INPUT, OUTPUT, GRADIENT = Name("E[x²]"), Name("E[y²]"), Name("E[g²]")


def explain_entry(entry: Entry) -> Explanation:
    """Return the chain from the signal that reaches a parameter to its law, with every number put in."""
    chain = (_place(entry), _fan(entry), _signal(entry), _std(entry), _choice(entry), _gradient(entry))
    fields = ("fan_in", "fan_out", "gain", "std", "second_moment", "gradient_second_moment", "learning_rate")
    numbers = {name: getattr(entry, name) for name in fields if getattr(entry, name) is not None}
    return Explanation(f"How {entry.name} gets its law", tuple(step for step in chain if step is not None), numbers)


def _place(entry: Entry) -> Step:
    where = f" in {entry.module}" if entry.module else ""
    feeds = f" It feeds {entry.op}{where}." if entry.op else ""
    return Step("The parameter", f"{entry.name} has shape {shape(entry.shape)}.{feeds} Its law is {entry.law!r}.")


def _fan(entry: Entry) -> Step | None:
    if entry.fan_in is None:
        return None
    outputs = "" if entry.fan_out is None else f" An input reaches {entry.fan_out:.6g} outputs."
    return Step(
        "fan_in: what one output hears, in this model",
        f"On average over the positions of the map, {entry.fan_in:.6g} inputs reach an output: taps that fall outside the map "
        f"are not counted.{outputs}",
        (Equation((FAN_IN, Number(entry.fan_in, 6))),),
    )


def _signal(entry: Entry) -> Step | None:
    """E[x²] that the law answers to, counted back from the prediction: exact where the op's bias is zero."""
    if not (entry.fan_in and entry.std and entry.second_moment):
        return None
    reaches = Over(Number(entry.second_moment), Times((Number(entry.fan_in, 6), Square(Number(entry.std, 6)))))
    return Step(
        "What reaches it",
        "The variances of the products add, so the predicted second moment of the output says what second moment an input has, "
        "weighted by how often each position is read.",
        (
            Equation((OUTPUT, Times((FAN_IN, Square(STD), INPUT)))),
            Equation(
                (
                    INPUT,
                    Over(OUTPUT, Times((FAN_IN, Square(STD)))),
                    reaches,
                    Number(entry.second_moment / (entry.fan_in * entry.std**2)),
                )
            ),
        ),
        "He et al. 2015, eq. 7",
    )


def _std(entry: Entry) -> Step | None:
    if not (entry.fan_in and entry.std):
        return None
    gain = entry.std * math.sqrt(entry.fan_in)
    return Step(
        "The gain, and the std",
        "The gain is what is left when the fan is taken out: √2 for plain ReLU layers, 1 where the input has second moment 1.",
        (
            Equation((GAIN, Times((STD, Root(FAN_IN))), Times((Number(entry.std, 6), Root(Number(entry.fan_in, 6)))), Number(gain))),
            Equation((STD, Over(GAIN, Root(FAN_IN)), Over(Number(gain), Root(Number(entry.fan_in, 6))), Number(entry.std))),
        ),
        "He et al. 2015, eq. 10",
    )  # fmt: skip


def _choice(entry: Entry) -> Step | None:
    if not entry.reasons:
        return None
    reasons = entry.reasons if entry.why in entry.reasons or not entry.why else (*entry.reasons, entry.why)
    rate = "" if entry.learning_rate is None else f" Adam's learning rate goes with it: × {entry.learning_rate:.4g}."
    return Step(f"The choice: {entry.recipe or 'as given'}", f"{'; '.join(reasons)}.{rate}")


def _gradient(entry: Entry) -> Step | None:
    if entry.gradient_second_moment is None:
        return None
    return Step(
        "Backward",
        "With this plan, the gradient that arrives at the op's output has this second moment, per unit of gradient at the "
        "model's output.",
        (Equation((GRADIENT, Number(entry.gradient_second_moment))),),
    )
