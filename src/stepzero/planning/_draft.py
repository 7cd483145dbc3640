"""A plan in the making: what is given, what is open, and one walk of the signal for each set of levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from stepzero.errors import PlanError
from stepzero.laws import Kept, isometric
from stepzero.moments import Flow, OnUnknown, Rule, propagate
from stepzero.network import Graph, ModelInputs, recording

from ._branches import logits
from ._chooser import Chooser, Profile, Target
from ._given import Given, given_laws, open_scale, parameter_moments, role_of
from ._goals import Goal
from ._overrides import Override, read_overrides
from ._own import Basic, with_own
from ._policies import Policy, speak
from ._said import Said
from ._scene import Scene
from ._slots import Slot, slots


@dataclass(frozen=True)
class Draft:
    """A captured model, with everything decided that needs no signal."""

    graph: Graph
    use: Mapping[str, list[Slot]]  # by canonical parameter name
    given: Mapping[str, Given]
    moments: Mapping[str, tuple[Tensor, Tensor]]  # of every parameter; open ones at second moment 1
    overrides: Mapping[str, Override]
    targets: Mapping[int, Target]  # by node, where a policy spoke
    usual: Target
    rates: Mapping[str, float]  # learning rates that go with policies, by parameter
    profiles: Mapping[str, Profile]  # of open weights whose parts differ in scale
    pinned: frozenset[int]  # weight ops whose outputs must keep their level, whatever the goal
    inputs: Mapping[str, Tensor]
    rules: Mapping[str, Rule]
    on_unknown: OnUnknown

    def walk(self, levels: Mapping[str, float] | None = None) -> Walked:
        """Follow the signal and choose every open law on the way.

        Args:
            levels: Factors on the second moment that an open weight is planned to put out, by parameter; 1 if not listed.
        """
        constants = frozenset(name for name, uses in self.use.items() if role_of(uses) != "weight")
        chooser = Chooser(
            self.targets, self.usual, self.overrides, frozenset(self.given), constants, levels or {}, self.profiles
        )
        flow = propagate(
            self.graph, self.inputs, self.moments, weights=chooser, rules=self.rules, on_unknown=self.on_unknown,
            isometric=[name for name, given in self.given.items() if isometric(given.law, self._shape(name))],
        )  # fmt: skip
        return Walked(chooser, flow)

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.graph.values[self.graph.parameters[name]].shape


@dataclass(frozen=True)
class Walked:
    """One walk: what was chosen, and what is predicted of it."""

    chooser: Chooser
    flow: Flow


def begin(
    model: nn.Module,
    call: ModelInputs,
    graph: Graph,
    overrides: Iterable[tuple[str, Any]] | None,
    policies: tuple[list[Policy], list[Policy]],
    rules: Mapping[str, Rule],
    on_unknown: OnUnknown,
    own: Mapping[str, Basic],
    goal: Goal,
) -> Draft:
    """Return the draft of a captured model; `policies` are those that the user asked for, and the default ones of other kinds.

    Raises:
        PlanError: if the model has no parameters, an override does not fit, or a policy finds nothing to speak about.
    """
    use = slots(graph)
    if not use:
        raise PlanError(f"{type(model).__name__} has no parameters: there is nothing to plan.")
    chosen = read_overrides(overrides, list(use))
    first, last = speak(*policies, Scene(graph, use)) if goal.name != "own" else (Said(), Said())
    ruled = given_laws(graph, use, chosen, first.laws)
    laws = with_own({n: g[:3] for n, g in ruled.items()}, own, chosen, everything=goal.name == "own")
    given = {n: ruled[n] if n in ruled and ruled[n].law is b[0] else Given(*b) for n, b in laws.items() if n in use}
    given |= {n: last.laws[n] for n in _known_to_nobody(model, given) if n in last.laws}
    draft = Draft(
        graph,
        use,
        given,
        {},
        chosen,
        first.targets,
        goal.target,
        first.rates,
        {n: p for n, p in first.profiles.items() if n not in given and n not in chosen},
        logits(graph),
        real_tensors(model, call),
        rules,
        on_unknown,
    )
    return replace(draft, moments=_moments(draft, model))


def _known_to_nobody(model: nn.Module, given: Mapping[str, Given]) -> list[str]:
    """Return kept parameters on meta of a model whose construction was not recorded."""
    if recording(model) is not None:
        return []
    held = dict(model.named_parameters(remove_duplicate=False))
    return [n for n, g in given.items() if isinstance(g.law, Kept) and n in held and held[n].is_meta]


def real_tensors(model: nn.Module, call: ModelInputs) -> dict[str, Tensor]:
    """Return the floating inputs that come with numbers, by name."""
    named = call.named(model.forward)
    return {
        name: t
        for name, t in named.items()
        if isinstance(t, Tensor) and t.is_floating_point() and t.device.type != "meta"
    }


def _moments(draft: Draft, model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    held = dict(model.named_parameters(remove_duplicate=False))
    graph = draft.graph
    known = {
        name: parameter_moments(
            g.law, graph.values[graph.parameters[name]].shape, draft.use[name], held.get(name)
        )
        for name, g in draft.given.items()
    }  # fmt: skip
    return known | {name: _open(draft, name) for name in draft.use if name not in known}


def _open(draft: Draft, name: str) -> tuple[Tensor, Tensor]:
    """Return the moments of a parameter of open scale; its parts relative to one another, where they differ."""
    mean, second = open_scale()
    profile = draft.profiles.get(name)
    return (
        (mean, second)
        if profile is None
        else (mean, profile.second(draft.graph.values[draft.graph.parameters[name]].shape))
    )
