"""What usual recipes would make of a draft: the marks that a compromise is held against."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from stepzero.laws import Recipe
from stepzero.moments import Call, Load, Signal, propagate
from stepzero.theory import Fans, fans

from ._descent import Problem, Reach
from ._draft import Draft, Walked


@dataclass(frozen=True)
class Drawn:
    """Weights as one recipe draws them all, from the fans of their shapes alone; what the user decided stays.

    Whole borders, no strides, policies or biases: that is how `torch.nn.init` is used.
    """

    recipe: Recipe
    given: frozenset[str]
    fixed: Mapping[str, float]  # scales of weights with recipes of the user's own

    def settle(self, call: Call, weight: Signal, load: Load) -> Signal:
        """Return the weight at the recipe's scale."""
        name = weight.knob.parameter if weight.knob else None
        if name is None or name in self.given:
            return weight
        if name in self.fixed:
            return weight.scaled(self.fixed[name])
        counted = fans(weight.shape) if len(weight.shape) > 1 else Fans(load.fan, load.fan)
        return weight.scaled(self.recipe.law(counted).variance / weight.average(weight.second))


def rivals(draft: Draft, problem: Problem, walked: Walked) -> dict[Reach, Mapping[str, float]]:
    """Return how far each of the goal's rivals goes, on the ops that the goal weighs, and the levels that are its own."""
    chooser = walked.chooser
    fixed = {name: chooser.scales[name] for name, choice in chooser.choices.items() if not choice.open}
    found = {}
    for recipe in problem.goal.rivals:
        drawn = Drawn(recipe, chooser.given, fixed)
        with np.errstate(all="ignore"):  # a recipe that explodes is no rival
            flow = propagate(
                draft.graph, draft.inputs, draft.moments, weights=drawn, rules=draft.rules, on_unknown=draft.on_unknown
            )
            found[problem.reach(flow)] = problem.levels(flow)
    return {reach: levels for reach, levels in found.items() if math.isfinite(sum(reach))}


def best(found: Iterable[Reach]) -> Reach:
    """Return the smaller of each number: often of two different rivals; infinite where there is none."""
    signals, gradients = zip(Reach(math.inf, math.inf), *found, strict=True)
    return Reach(min(signals), min(gradients))
