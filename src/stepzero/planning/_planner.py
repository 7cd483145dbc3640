"""plan(): read a model without its weights, follow the signal, and choose a law for every parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stepzero.errors import LawError, PlanError
from stepzero.laws import Constant, Kept, Law, Normal
from stepzero.moments import RULES, Flow, OnUnknown, Rule, propagate
from stepzero.network import Graph, ModelInputs, capture
from stepzero.planning._branches import residual_branches
from stepzero.planning._chooser import Choice, Chooser, Target
from stepzero.planning._entry import Entry
from stepzero.planning._overrides import Override, read_overrides
from stepzero.planning._plan import Plan
from stepzero.planning._policies import ResidualPolicy, residual_policy
from stepzero.planning._slots import Slot, slots

GOALS = ("forward",)
PLANNED = frozenset({"weight", "magnitude"})


def plan(
    model: nn.Module,
    inputs: Any,
    *,
    goal: str = "forward",
    overrides: Iterable[tuple[str, Any]] | None = None,
    residual: str = "1/sqrt(depth)",
    rules: Mapping[str, Rule] = RULES,
    on_unknown: OnUnknown = "probe",
) -> Plan:
    """Choose a law for every parameter of a model, from the signal that reaches it.

    The model is read by one forward pass on meta tensors; its weights are neither read nor changed, so it may live
    on the meta device. Parameters that no rule decides keep their values (`Kept`).

    Args:
        model: Any eager model, in the mode (train or eval) that it is planned for.
        inputs: A tensor, a tuple of tensors, a shape, a text form, or `{"args": ..., "kwargs": ...}`. The moments
            of given tensors are counted; an input given by its shape is taken as white N(0, 1).
        goal: What is held constant. "forward": the second moment of every preactivation is 1.
        overrides: An ordered list of (pattern, law or recipe); patterns are those of a shell; the first match wins.
        residual: What each branch adds to a residual stream: "1/sqrt(depth)", "unit" or "zero-last".
        rules: One propagation rule for each op name; extend by `RULES | {"mylib::op": my_rule}`.
        on_unknown: At an op without a rule: "probe" it on random tensors, raise an "error", or let it pass as "identity".

    Raises:
        InputError: if the inputs do not describe a call that the model accepts, or are not finite.
        ModelError: if the model cannot be read.
        CaptureError: if the forward pass cannot be recorded.
        NoRuleError: with on_unknown="error", at an op without a rule.
        PlanError: if goal, residual or an override is not known, or the model has no weights.

    Examples:
        >>> net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, padding_mode="circular"), nn.ReLU(),
        ...                     nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular"))
        >>> round(plan(net, (1, 3, 8, 8))["2.weight"].law.std ** 2 * 9 * 64, 9)   # 2 / fan_in after a ReLU
        2.0
    """
    if goal not in GOALS:
        raise PlanError(f"goal={goal!r} is not known. Choose one of {', '.join(GOALS)}.")
    policy = residual_policy(residual)
    call = ModelInputs.of(inputs)
    return draft(model, call, capture(model, call), policy, overrides, rules, on_unknown, goal)


def initialize_(model: nn.Module, inputs: Any, seed: int = 0, **plan_options: Any) -> Plan:
    """Plan a model and draw the plan into it, in place; return the plan.

    Args:
        model: A model with memory, in the mode that it is planned for.
        inputs: As for `plan`.
        seed: 0 ≤ seed < 2^64. Values depend on seed, name and index alone.
        **plan_options: As for `plan`: goal, overrides, residual, rules, on_unknown.

    Raises:
        StepZeroError: as `plan` and `Plan.apply_` do; the model is as it was.

    Examples:
        >>> net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
        >>> initialize_(net, (1, 64))["2.weight"].second_moment
        1.0
    """
    made = plan(model, inputs, **plan_options)
    made.apply_(model, seed)
    return made


def draft(
    model: nn.Module,
    call: ModelInputs,
    graph: Graph,
    policy: ResidualPolicy,
    overrides: Iterable[tuple[str, Any]] | None,
    rules: Mapping[str, Rule],
    on_unknown: OnUnknown,
    goal: str,
) -> Plan:
    """Plan a captured model."""
    use = slots(graph)
    if not use:
        raise PlanError(f"{type(model).__name__} has no parameters: there is nothing to plan.")
    chosen = read_overrides(overrides, list(use))
    basics = _basics(graph, use, chosen)
    tensors = dict(model.named_parameters(remove_duplicate=False))
    given = {name: _moments(graph, use, name, law, tensors) for name, (law, *_) in basics.items()}
    constants = frozenset(n for n, s in use.items() if _role(s) != "weight")
    free = {name: _unit() for name in use if name not in given}
    chooser = Chooser(_targets(graph, policy), chosen, frozenset(given), constants)
    flow = propagate(
        graph, real_tensors(model, call), given | free, weights=chooser, rules=rules, on_unknown=on_unknown
    )
    entries = _entries(graph, use, basics, chooser, flow)
    return Plan(
        entries,
        goal=goal,
        inputs=call.describe(model.forward),
        model=type(model).__name__,
        notes=_notes(graph, flow, chooser, entries),
    )


def real_tensors(model: nn.Module, call: ModelInputs) -> dict[str, Tensor]:
    """Return the floating inputs that come with numbers, by name."""
    named = call.named(model.forward)
    return {
        name: t
        for name, t in named.items()
        if isinstance(t, Tensor) and t.is_floating_point() and t.device.type != "meta"
    }


Basic = tuple[Law, str, tuple[str, ...]]  # law, recipe, reasons


def _basics(graph: Graph, use: Mapping[str, list[Slot]], overrides: Mapping[str, Override]) -> dict[str, Basic]:
    """Return the laws that need no signal: what the user fixed, biases, norms, and what is kept."""
    found: dict[str, Basic] = {}
    for name, uses in use.items():
        override = overrides.get(name)
        if override is not None and isinstance(override.choice, Law):
            _require(override, name, graph.values[graph.parameters[name]].shape)
            found[name] = override.choice, "override", (f"override {override.pattern!r}",)
        elif (role := _role(uses)) in BASICS:
            found[name] = BASICS[role]
        elif role in ("direction", "standardised"):
            shape = graph.values[graph.parameters[name]].shape
            fan = max(1, torch.Size(shape).numel() // max(1, shape[0]))
            found[name] = (
                Normal(fan**-0.5),
                role,
                (f"its scale is divided out by {uses[0].node.op}: 1/√fan_in keeps it near 1",),
            )
        elif role not in PLANNED and not (override is not None and role == "weight"):
            found[name] = Kept(), "kept", (_kept_reason(uses),)
    return found


def _require(override: Override, name: str, shape: tuple[int, ...]) -> None:
    """Raise PlanError unless the law that the user chose fits the parameter."""
    try:
        override.choice.require(shape)  # type: ignore[union-attr]
    except LawError as error:
        raise PlanError(f"override {override.pattern!r} matches {name}, but {error}") from None


BASICS: dict[str, Basic] = {
    "norm scale": (Constant(1.0), "norm scale", ("a norm starts as a pure normalisation",)),
    "shift": (Constant(0.0), "zero bias", ("b = 0, as eq. 8 of He et al. 2015 assumes",)),
}


def _role(uses: list[Slot]) -> str:
    """The role that decides: weights before shifts; a standardised weight's gain is its magnitude."""
    roles = [slot.role for slot in uses]
    if not roles:
        return "unused"
    for slot in uses:
        if slot.role == "norm scale" and "input" in slot.node.arguments and _normalises_weight(slot):
            return "magnitude"
    order = ("weight", "magnitude", "direction", "standardised", "norm scale", "shift")
    return next((role for role in order if role in roles), "other")


def _normalises_weight(slot: Slot) -> bool:
    return slot.node.op == "batch_norm" and bool(slot.node.arguments.get("training")) and slot.standardises


def _kept_reason(uses: list[Slot]) -> str:
    if not uses:
        return "no op of this forward pass reads it"
    slot = uses[0]
    return f"no rule decides about {slot.node.op}[{slot.argument}]: its value stays as it is"


def _unit() -> tuple[Tensor, Tensor]:
    """A parameter whose scale is still open."""
    return torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)


def _moments(
    graph: Graph, use: Mapping[str, list[Slot]], name: str, law: Law, tensors: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return mean and second moment of a parameter: by its law, or of the values that it keeps."""
    if not isinstance(law, Kept):
        mean, second = law.moments(graph.values[graph.parameters[name]].shape)
        return torch.from_numpy(mean).double(), torch.from_numpy(second).double()
    t = tensors.get(name)
    if t is None or t.device.type == "meta":
        multiplies = any(s.node.op in ("mul", "prelu", "div") for s in use[name])
        value = 0.25 if any(s.node.op == "prelu" for s in use[name]) else float(multiplies)
        return torch.tensor(value, dtype=torch.float64), torch.tensor(value**2, dtype=torch.float64)
    t = t.detach().double()
    return t.mean(), t.square().mean()


def _targets(graph: Graph, policy: ResidualPolicy) -> dict[int, Target]:
    """Return the target of each weight op that ends a residual branch."""
    found = {}
    for branch in residual_branches(graph):
        why = f"{policy.reason.format(depth=branch.depth)} ({policy.source})"
        for node in branch.ends:
            found[node] = Target(policy.second_moment(branch.depth) / len(branch.ends), why, f"residual {policy.name}")
    return found


def _entries(
    graph: Graph, use: Mapping[str, list[Slot]], basics: Mapping[str, Basic], chooser: Chooser, flow: Flow
) -> tuple[Entry, ...]:
    gradients = flow.gradients()
    return tuple(_entry(graph, name, uses, basics, chooser, flow, gradients) for name, uses in use.items())


def _entry(
    graph: Graph,
    name: str,
    uses: list[Slot],
    basics: Mapping[str, Basic],
    chooser: Chooser,
    flow: Flow,
    gradients: Mapping[int, float],
) -> Entry:
    value = graph.values[graph.parameters[name]]
    choice = chooser.choices.get(name)
    node = graph.nodes[choice.node] if choice else (_feeds(uses) or None)
    law, recipe, reasons = _outcome(name, basics, choice)
    out = node.outputs[0] if node else -1
    numbers: dict[str, Any] = {}
    if node and node.id in chooser.fans and _role(uses) in PLANNED:
        fans, _ = chooser.fans[node.id]
        std = law.std if law.std == law.std else 0.0
        gain = std * fans.fan_in**0.5 if std else None
        numbers = {"fan_in": fans.fan_in, "fan_out": fans.fan_out, "gain": gain}
    return Entry(
        name,
        value.shape,
        str(value.dtype),
        law,
        recipe,
        reasons,
        flow.second(out) if out in flow.signals else None,
        gradients.get(node.id) if node else None,
        op=node.op if node else "",
        module=node.module if node else "",
        **numbers,
    )


def _feeds(uses: list[Slot]) -> Any:
    return uses[0].node if uses else None


def _outcome(name: str, basics: Mapping[str, Basic], choice: Choice | None) -> Basic:
    if choice is not None:
        return choice.law, choice.recipe, choice.reasons
    if name in basics:
        return basics[name]
    return Kept(), "kept", ("the forward pass carries no signal to it: its value stays as it is",)


def _notes(graph: Graph, flow: Flow, chooser: Chooser, entries: Iterable[Entry]) -> tuple[str, ...]:
    notes = []
    kept = [e for e in entries if isinstance(e.law, Kept)]
    if kept:
        notes.append(f"{len(kept)} parameters keep their values: {_some([e.name for e in kept])}")
    if flow.probed:
        notes.append(f"measured on random tensors, for want of a rule: {_some(flow.probed)}")
    if flow.passed:
        notes.append(f"neither derived nor measured, so taken to pass the signal as it is: {_some(flow.passed)}")
    if chooser.fixed:
        notes.append(f"the graph itself fixes the weight's scale at: {_some(dict.fromkeys(chooser.fixed))}")
    if graph.rung != "meta":
        notes.append(f"captured on the rung {graph.rung!r}: the pass needed more than shapes")
    notes += [f"assumed during capture: {what}" for what in graph.assumed]
    return tuple(notes)


def _some(names: Iterable[str], most: int = 4) -> str:
    listed = list(names)
    more = f" … ({len(listed)} in all)" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
