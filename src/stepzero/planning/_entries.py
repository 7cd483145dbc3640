"""From a walk to what a plan says: an entry for each parameter, and notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stepzero.laws import Kept
from stepzero.network import Node

from ._draft import Draft, Walked
from ._entry import Entry
from ._given import PLANNED, Given, role_of
from ._wording import keepers, some


def entries_of(draft: Draft, walked: Walked) -> tuple[Entry, ...]:
    """Return the entry of each parameter, in the model's order."""
    gradients = walked.flow.gradients()
    return tuple(_entry(draft, walked, name, gradients) for name in draft.use)


def notes_of(draft: Draft, walked: Walked, entries: Iterable[Entry]) -> tuple[str, ...]:
    """Return what a reader of the plan should know: what was kept, measured, passed, fixed or assumed."""
    graph, flow = draft.graph, walked.flow
    kept = [e.name for e in entries if isinstance(e.law, Kept)]
    told = (
        (kept, f"{keepers(len(kept))}: {some(kept)}"),
        (flow.probed, f"measured on random tensors, for want of a rule: {some(flow.probed)}"),
        (flow.passed, f"neither derived nor measured, so taken to pass the signal as it is: {some(flow.passed)}"),
        (walked.chooser.fixed, f"the graph itself fixes the weight's scale at: {some(dict.fromkeys(walked.chooser.fixed))}"),
        (graph.rung != "meta", f"captured on the rung {graph.rung!r}: the pass needed more than shapes"),
    )  # fmt: skip
    return (
        *(note for holds, note in told if holds),
        *_rates(draft),
        *(f"assumed during capture: {what}" for what in graph.assumed),
    )


def _rates(draft: Draft) -> Iterator[str]:
    """Say which learning rates go with the scales."""
    groups: dict[float, list[str]] = {}
    for name, rate in draft.rates.items():
        groups.setdefault(rate, []).append(name)
    for rate, names in groups.items():
        if rate != 1.0:
            yield f"to go with these scales: Adam's learning rate × {rate:.4g} for {some(names)}"


def _entry(draft: Draft, walked: Walked, name: str, gradients: Mapping[int, float]) -> Entry:
    value = draft.graph.values[draft.graph.parameters[name]]
    node, ruling = _node(draft, walked, name), _ruling(draft, walked, name)
    out = node.outputs[0] if node else -1
    return Entry(
        name,
        value.shape,
        str(value.dtype),
        ruling.law,
        ruling.recipe,
        ruling.reasons,
        walked.flow.second(out) if out in walked.flow.signals else None,
        gradients.get(node.id) if node else None,
        op=node.op if node else "",
        module=node.module if node else "",
        why=ruling.why or "; ".join(ruling.reasons[-1:]),
        learning_rate=draft.rates.get(name),
        **_fans(draft, walked, name, node, ruling),
    )


def _fans(draft: Draft, walked: Walked, name: str, node: Node | None, ruling: Given) -> dict[str, Any]:
    """fan_in, fan_out and gain of a weight."""
    if node is None or node.id not in walked.chooser.fans or role_of(draft.use[name]) not in PLANNED:
        return {}
    fans, _ = walked.chooser.fans[node.id]
    std = ruling.law.std if ruling.law.std == ruling.law.std else 0.0
    return {"fan_in": fans.fan_in, "fan_out": fans.fan_out, "gain": std * fans.fan_in**0.5 if std else None}


def _node(draft: Draft, walked: Walked, name: str) -> Node | None:
    """The op that a parameter feeds: where its law was chosen, else its first use."""
    choice, uses = walked.chooser.choices.get(name), draft.use[name]
    if choice is not None:
        return draft.graph.nodes[choice.node]
    return uses[0].node if uses else None


def _ruling(draft: Draft, walked: Walked, name: str) -> Given:
    choice = walked.chooser.choices.get(name)
    if choice is not None:
        return Given(choice.law, choice.recipe, choice.reasons, choice.why)
    if name in draft.given:
        return draft.given[name]
    return Given(Kept(), "kept", ("the forward pass carries no signal to it: its value stays as it is",))
