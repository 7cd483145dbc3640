"""The planner on its walk: at each weight op it chooses the scale that gives the output its target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stepzero.errors import PlanError
from stepzero.laws import Constant, Law, Normal, Parts, Recipe
from stepzero.moments import Call, Load, Signal, input_argument
from stepzero.planning._overrides import Override
from stepzero.theory import Fans


@dataclass(frozen=True, slots=True)
class Target:
    """The second moment that a weight op's output is planned to have, who says so, and why."""

    second_moment: float
    reason: str  # a sentence with its source: what `Plan.why` says
    recipe: str  # the goal or policy
    of_input: bool = False  # in units of the second moment that reaches the op


@dataclass(frozen=True, slots=True)
class Profile:
    """Second moments of the parts of one weight, relative to one another: queries packed with keys and values."""

    axis: int  # of the weight's outputs
    runs: tuple[tuple[int, int, float], ...]  # start, stop, factor

    def second(self, shape: tuple[int, ...]) -> Tensor:
        """Return the factors as a map of the weight."""
        map_ = torch.empty(shape[self.axis], dtype=torch.float64)
        for start, stop, factor in self.runs:
            map_[start:stop] = factor
        return map_.reshape([-1 if i == self.axis else 1 for i in range(len(shape))])

    def law(self, second: float, shape: tuple[int, ...]) -> Law:
        """Return the law of a weight whose parts of factor 1 have this second moment."""
        before = tuple((0, size) for size in shape[: self.axis])
        return Parts(
            tuple(
                ((*before, (start, stop)), Normal(math.sqrt(second * factor)) if factor else Constant(0.0))
                for start, stop, factor in self.runs
            )
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """A law chosen at a weight op."""

    law: Law
    recipe: str
    reasons: tuple[str, ...]
    node: int
    why: str = ""
    open: bool = True  # whether its scale answers to the goal, and not to a recipe of the user's


@dataclass
class Chooser:
    """Decides about weights during propagation, each at its first use.

    `given` parameters already have moments (biases, norm scales, kept values, laws that the user chose); `knobs`
    says which of the others are constants (magnitudes, gains) rather than drawn.
    """

    targets: Mapping[int, Target]  # by node, where a policy spoke
    usual: Target  # of all others
    overrides: Mapping[str, Override]
    given: frozenset[str]
    constants: frozenset[str]
    levels: Mapping[str, float] = field(default_factory=dict)  # factors on the targets, by parameter
    profiles: Mapping[str, Profile] = field(default_factory=dict)  # of weights whose parts differ in scale
    choices: dict[str, Choice] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    fans: dict[int, tuple[Fans, float]] = field(default_factory=dict)  # by node: fans and input second moment
    users: dict[int, str] = field(default_factory=dict)  # by node: the parameter that its scale was left to
    fixed: list[str] = field(default_factory=list)  # places where the graph fixes a weight's scale

    def settle(self, call: Call, weight: Signal, load: Load) -> Signal:
        """Return the weight at its planned scale."""
        fans = self._fans(call, load)
        self.fans[call.node.id] = fans, load.input_second
        if weight.knob is None:
            self.fixed.append(call.where)
            return weight
        name = weight.knob.parameter
        if name in self.given:
            return weight
        self.users[call.node.id] = name
        if name not in self.scales:
            self._choose(call, weight, load, fans)
        return weight.scaled(self.scales[name])

    def _choose(self, call: Call, weight: Signal, load: Load, fans: Fans) -> None:
        name = weight.knob.parameter if weight.knob else ""
        override = self.overrides.get(name)
        if override is not None and isinstance(override.choice, Recipe):
            law: Law = override.choice.law(fans)
            second = law.variance + law.mean**2
            why = f"override {override.pattern!r}: {override.choice!r}"
            self._keep(name, second, Choice(law, override.choice.kind, (why,), call.node.id, why, open=False))
            return
        target = self.targets.get(call.node.id, self.usual)
        per_unit = weight.average(weight.second) * load.second
        if not math.isfinite(per_unit):
            raise PlanError(
                f"the signal that reaches {call.op} (at {call.where}) is not finite: check the inputs and activations before it."
            )
        if per_unit <= 0.0:  # a dead input: nothing to hold, so take it as if it had second moment 1
            per_unit = weight.average(weight.second) * max(load.fan, 1.0)
        level = target.second_moment * self.levels.get(name, 1.0) * (load.input_second if target.of_input else 1.0)
        second = level / per_unit
        law = self._law(name, second, weight.shape)
        choice = Choice(law, target.recipe, _reasons(call, load, target, level), call.node.id, target.reason)
        self._keep(name, second, choice)

    def _law(self, name: str, second: float, shape: tuple[int, ...]) -> Law:
        if name in self.profiles and second:
            return self.profiles[name].law(second, shape)
        return Constant(math.sqrt(second)) if name in self.constants or not second else Normal(math.sqrt(second))

    def _keep(self, name: str, second: float, choice: Choice) -> None:
        self.scales[name] = float(second)
        self.choices[name] = choice

    def _fans(self, call: Call, load: Load) -> Fans:
        """fan_out / fan_in = elements out / elements in, for any linear op (each path counted from both ends)."""
        x, y = torch.Size(_unpadded_input(call)).numel(), torch.Size(call.shape).numel()
        return Fans(load.fan, load.fan * y / x)


def _unpadded_input(call: Call) -> tuple[int, ...]:
    """Return the shape of what the op reads, before padding of its own (circular, reflect …) enlarged it."""
    found = input_argument(call.node)
    assert found is not None
    while (maker := call.graph.producer(found)) is not None and "pad" in maker.op:
        found = maker.inputs[0]
    return call.graph.values[found].shape


def _reasons(call: Call, load: Load, target: Target, level: float) -> tuple[str, ...]:
    if not level:
        return (target.reason,)
    return (
        f"true fan_in {load.fan:.6g} at this map size ({call.op})",
        f"input second moment {load.input_second:.6g}, counted through the op's own borders: {load.second:.6g} per unit of E[w²]",
        target.reason,
        f"E[w²] = {level:.6g} / {load.second:.6g}",
    )
