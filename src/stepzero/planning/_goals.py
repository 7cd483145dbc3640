"""What a plan holds constant, as values: how much an uneven gradient weighs against a signal that leaves 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from stepzero.errors import PlanError
from stepzero.laws import Kaiming, Recipe

from ._chooser import Target


@dataclass(frozen=True, slots=True)
class Goal:
    """The objective of a plan, over logs of second moments: u of preactivations, against their targets, and v of gradients.

        minimise  Σ w (v - v̄)² + Σ u²   with   |u| ≤ band

    The loss sets the level of the gradients, so that v̄ is free: midway between the first layer and the last. With w = 0 every preactivation meets its target, and the
    gradients follow. In a plain chain the scale of a layer moves its u by as much as its v the other way, so that the problem is
    convex, and u = w/(1 + w) of what the gradient is off.

    Args:
        name: As `plan(goal=...)` takes it.
        inside: w of the layers between the first and the last; ≥ 0. Their gradients differ by design (bottlenecks, expansions).
        ends: w of the first and the last layer; ≥ 0. Their ratio is what depth does to a gradient.
        band: Largest |u|.
        rivals: Recipes that a plan is not to lose to, neither on max |u| nor on |v_first - v_last|. Where weighted squares do,
            both numbers become the same share of the best rival's (minimax), whatever the band. In a chain
            |v_first - v_last| = c - (u_last - u_first) ≥ c - 2 max |u|, with c of the plan that holds every signal: two best numbers
            s and r of different rivals exclude each other where r < c - 2s. One rival is then met on both, and none is better on both.
        reason: What it asks of a weight, in words.
        source: Where it comes from.

    Raises:
        PlanError: if a number is negative or nan.
    """

    name: str
    inside: float
    ends: float
    band: float
    reason: str
    source: str
    rivals: tuple[Recipe, ...] = ()

    def __post_init__(self) -> None:
        if not (self.inside >= 0 and self.ends >= 0 and self.band >= 0):
            raise PlanError(f"goal {self.name!r}: inside, ends and band must be numbers ≥ 0.")

    @property
    def target(self) -> Target:
        """What a weight op's output is held to before gradients count."""
        return Target(1.0, f"goal {self.name}: {self.reason} ({self.source})", self.name)

    @property
    def follows(self) -> bool:
        """Whether gradients count at all."""
        return max(self.inside, self.ends) > 0


GOALS: Mapping[str, Goal] = MappingProxyType(
    {
        goal.name: goal
        for goal in (
            Goal(
                "forward", 0.0, 0.0, math.inf,
                "second moment 1 for every preactivation",
                "He et al. 2015, eq. 10, with the true input moments",
            ),
            Goal(
                "backward", 1e6, 1e6, math.log(1e4),
                "the same second moment for every gradient, and preactivations as near 1 as that allows",
                "He et al. 2015, eq. 14, with the true fans",
            ),
            Goal(
                "balanced", 0.2, 16.0, math.log(13.0),
                "gradients as even, the first beside the last above all, as preactivations near 1 allow, and no worse than Kaiming's modes on either",
                "weighted least squares over log second moments; for one linear layer Glorot & Bengio 2010, eq. 12, is such a compromise",
                (Kaiming(mode="fan_in"), Kaiming(mode="fan_out"), Kaiming(a=math.sqrt(5.0))),
            ),
            Goal("own", 0.0, 0.0, math.inf, "the laws of the model's author", "the model's constructor"),
        )
    }
)  # fmt: skip


def goal_named(name: str) -> Goal:
    """Return a goal by its name.

    Raises:
        PlanError: if there is none of that name.
    """
    if name not in GOALS:
        raise PlanError(f"goal={name!r} is not known. Choose one of {', '.join(GOALS)}.")
    return GOALS[name]
