"""plan(): read a model without its weights, follow the signal, and choose a law for every parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from stepzero.errors import PlanError
from stepzero.moments import RULES, OnUnknown, Rule
from stepzero.network import ModelInputs, capture, collector_paused, unmoved

from ._draft import begin
from ._entries import entries_of, notes_of
from ._goals import goal_named
from ._levels import solve, told
from ._own import own_laws, own_notes, plan_without_inputs, with_unreached
from ._plan import Plan
from ._policies import Policy, read_policies


@unmoved
@collector_paused()
def plan(
    model: nn.Module,
    inputs: Any = None,
    *,
    goal: str = "forward",
    overrides: Iterable[tuple[str, Any]] | None = None,
    residual: str = "1/sqrt(depth)",
    policies: Iterable[str | Policy] | None = None,
    rules: Mapping[str, Rule] = RULES,
    on_unknown: OnUnknown = "probe",
) -> Plan:
    """Choose a law for every parameter of a model, from the signal that reaches it.

    The model is read by one forward pass on meta tensors; its weights are neither read nor changed, so it may live
    on the meta device. Parameters that no rule decides keep their values (`Kept`).

    Args:
        model: Any eager model, in the mode (train or eval) that it is planned for.
        inputs: A tensor, a tuple of tensors, a shape, a text form, or `{"args": ..., "kwargs": ...}`. The moments
            of given tensors are counted; an input given by its shape is taken as white N(0, 1). Only goal "own" can do
            without: its plan has laws then, and no predictions.
        goal: What is held constant. "forward": the second moment of every preactivation is 1. "backward": that of every
            gradient. "balanced": both as far as they agree; the gradients of the first and the last layer as even as preactivations
            near 1 allow, and no worse than Kaiming's modes or torch's default on either, where levels can do that. See `GOALS`.
            "own": nothing, the laws are those of the model's author, as `stepzero.build` recorded them; of a model built otherwise, those that its values show.
        overrides: An ordered list of (pattern, law or recipe); patterns are those of a shell; the first match wins.
        residual: What each branch adds to a residual stream: "1/sqrt(depth)", "unit", "zero-last", "fixup" …
        policies: Names "kind:choice" or "kind:choice=number" from `POLICIES`, such as "head:zero", "embedding:normal=0.02" or
            "width:mup=256", or policies of your own: what a kind of parameter gets beside the goal. One of each kind.
        rules: One propagation rule for each op name; extend by `RULES | {"mylib::op": my_rule}`.
        on_unknown: At an op without a rule: "probe" it on random tensors, raise an "error", or let it pass as "identity".

    Raises:
        InputError: if the inputs do not describe a call that the model accepts, or are not finite.
        ModelError: if the model cannot be read.
        CaptureError: if the forward pass cannot be recorded.
        NoRuleError: with on_unknown="error", at an op without a rule.
        PlanError: if goal, residual, a policy or an override is not known or finds nothing, or the model has no weights.

    Examples:
        >>> net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, padding_mode="circular"), nn.ReLU(),
        ...                     nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular"))
        >>> round(plan(net, (1, 3, 8, 8))["2.weight"].law.std ** 2 * 9 * 64, 9)   # 2 / fan_in after a ReLU
        2.0
    """
    aim = goal_named(goal)
    chosen = read_policies(policies, residual)
    if goal == "own" and chosen[0]:
        raise PlanError(
            "goal='own' follows the model's author: it takes no policies. Choose another goal, or overrides."
        )
    if inputs is None:
        if goal != "own":
            raise PlanError(
                f"goal={goal!r} follows a signal through the model: give inputs, such as a shape (1, 3, 224, 224)."
            )
        return plan_without_inputs(model, overrides)
    call = ModelInputs.of(inputs, model)
    graph = capture(model, call)
    own = own_laws(model, read_values=goal == "own")
    draft = begin(model, call, graph, overrides, chosen, rules, on_unknown, own, aim)
    solved = solve(draft, aim)
    walked = solved.walked
    entries = with_unreached(entries_of(draft, walked), model, own, draft.overrides)
    return Plan(
        entries,
        goal=goal,
        inputs=call.describe(model.forward),
        model=type(model).__name__,
        notes=told(aim, solved) + notes_of(draft, walked, entries) + (own_notes(model, own) if goal == "own" else ()),
    )


def initialize_(model: nn.Module, inputs: Any, seed: int = 0, **plan_options: Any) -> Plan:
    """Plan a model and draw the plan into it, in place; return the plan.

    Args:
        model: A model with memory, in the mode that it is planned for.
        inputs: As for `plan`.
        seed: 0 ≤ seed < 2^64. Values depend on seed, name and index alone.
        **plan_options: As for `plan`: goal, overrides, residual, policies, rules, on_unknown.

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
