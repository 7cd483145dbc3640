"""The author's own init as laws: from what `build` recorded of the constructor, or read from values where that is safe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from stepzero.errors import LawError, PlanError
from stepzero.filling import is_distributed
from stepzero.laws import Copy, Kept, Law, Norms
from stepzero.network import Origin, Recording, Slot, buffer_slots, law_of_origin, parameter_slots, recording
from stepzero.planning._entry import Entry
from stepzero.planning._overrides import Override, read_overrides
from stepzero.planning._own_values import law_of_values
from stepzero.planning._plan import Plan
from stepzero.planning._wording import keepers, some

Basic = tuple[Law, str, tuple[str, ...]]  # law, recipe, reasons
UNKNOWN = "its values are on meta, and the model was not built with stepzero.build: nothing is known of them"
UNREAD = "its values are as they were found; nothing was recorded of them"
TO_DO = "give it one (overrides=[(name, law)]) or its numbers (materialize_(…, values={…}))"
FORMATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
NO_DRAW = "its values do not look freshly drawn, or are too few to tell: they stay"
SHOWN = "read from its values: as a constant or pattern they are exact, as a draw they pass the tests that 99 % of real draws pass"


def own_laws(model: nn.Module, *, read_values: bool = True) -> dict[str, Basic]:
    """Return the law of each parameter, and of each buffer that was drawn, as the model's author meant it.

    Where the constructor was not recorded, `read_values` asks the values. What is not known is `Kept`, with the reason.
    """
    found = recording(model)
    laws = {name: _law(slot, found, read_values) for name, slot in parameter_slots(model).items()}
    return laws | {name: own for name, own in drawn_buffers(model).items() if _is_persistent(model, name)}


def drawn_buffers(model: nn.Module) -> dict[str, Basic]:
    """Return the laws of the buffers on meta that the constructor drew, as far as they are known."""
    found: Mapping[str, Origin] = recording(model) or {}
    meta = {name: slot for name, slot in buffer_slots(model).items() if slot.tensor.is_meta and name in found}
    laws = {name: from_origin(found[name], found) for name, slot in meta.items()}
    return {name: own for name, own in laws.items() if not isinstance(own[0], Kept)}


def with_own(
    basics: Mapping[str, Basic], own: Mapping[str, Basic], chosen: Iterable[str], *, everything: bool
) -> dict[str, Basic]:
    """Return the laws known in advance, where the author's own stand in for those that the planner has not got.

    Args:
        basics: Laws by the planner and the user.
        own: The author's.
        chosen: Names that the user has decided about.
        everything: Whether the author's laws stand in for the planner's too, and not only for `Kept`.
    """
    left = {name: basic for name, basic in basics.items() if everything is False or name in chosen}
    for name, basic in own.items():
        kept = name not in left or isinstance(left[name][0], Kept)
        known = everything or (name in left and not isinstance(basic[0], Kept))
        if name not in chosen and kept and known:
            left[name] = basic
    return left


def with_unreached(
    entries: Iterable[Entry], model: nn.Module, own: Mapping[str, Basic], chosen: Iterable[str]
) -> tuple[Entry, ...]:
    """Return the entries of a plan, with the author's laws for what no signal reached, and for buffers that were drawn."""
    given = tuple(entries)
    known = {name: basic for name, basic in own.items() if not isinstance(basic[0], Kept)}
    names = {entry.name for entry in given}
    return following(
        [
            *(
                replace(entry, law=known[entry.name][0], recipe="own", reasons=known[entry.name][2])
                if isinstance(entry.law, Kept) and entry.name in known and entry.name not in chosen
                else entry
                for entry in given
            ),
            *(
                own_entry(slot, known[name])
                for name, slot in buffer_slots(model).items()
                if name in known and name not in names
            ),
        ]
    )


def plan_without_inputs(model: nn.Module, overrides: Iterable[tuple[str, Any]] | None) -> Plan:
    """Return the author's own init as a plan without predictions: no forward pass is read.

    Raises:
        PlanError: if an override is a recipe, which needs the fans that a forward pass tells.
    """
    own, slots = own_laws(model), parameter_slots(model) | buffer_slots(model)
    chosen = read_overrides(overrides, list(own))
    laws = {name: _overridden(chosen[name]) if name in chosen else basic for name, basic in own.items()}
    entries = following(own_entry(slots[name], basic) for name, basic in laws.items())
    unread = [entry.name for entry in entries if isinstance(entry.law, Kept)]
    notes = (f"{keepers(len(unread))}: {some(unread)}",) if unread else ()
    return Plan(entries, goal="own", model=type(model).__name__, notes=notes + own_notes(model, laws))


def following(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return entries in which copies and lengths of a parameter follow the law that it has got now."""
    given = tuple(entries)
    drawn = {entry.name: entry for entry in given if not isinstance(entry.law, (Kept, Copy, Norms))}
    return tuple(_follow(entry, drawn) for entry in given)


def _follow(entry: Entry, drawn: Mapping[str, Entry]) -> Entry:
    law = entry.law
    if not isinstance(law, (Copy, Norms)) or law.of not in drawn or drawn[law.of].law == law.law:
        return entry
    of = drawn[law.of]
    if of.shape != (law.shape if isinstance(law, Norms) else entry.shape):
        return entry
    return replace(
        entry, law=replace(law, law=of.law), reasons=(*entry.reasons, f"it follows {of.name}, whose law is another now")
    )


def own_entry(slot: Slot, basic: Basic) -> Entry:
    """Return the entry of a tensor that no forward pass was followed to."""
    law, recipe, reasons = basic
    dtype, module = str(slot.tensor.dtype), slot.name.rpartition(".")[0]
    return Entry(slot.name, tuple(slot.tensor.shape), dtype, law, recipe, reasons, module=module)


def own_notes(model: nn.Module, laws: Mapping[str, Basic]) -> tuple[str, ...]:
    """Return what a reader should know about where the author's laws come from."""
    found, unread = recording(model), dict[str, list[str]]()
    for name, (law, _, reasons) in laws.items():
        if isinstance(law, Kept):
            unread.setdefault(reasons[0], []).append(name)
    notes = [f"{some(names)}: {reason}" for reason, names in unread.items()]
    if found is None:
        notes.append("laws read from values, not from the constructor: stepzero.build(factory) records what it draws")
    elif found.rung == "real":
        notes.append("the constructor reads random numbers: it was run for real, and recorded so")
    return (*notes, *(f"assumed while building: {what}" for what in (found.assumed if found else ())))


def from_origin(origin: Origin, found: Mapping[str, Origin]) -> Basic:
    """Return what a recording says of a tensor, as a law with its history."""
    if not origin.known:
        return Kept(), "kept", (f"its law is not known: {origin.reason}", TO_DO, *_told(origin))
    try:
        law = law_of_origin(origin, found)
    except LawError as error:
        return Kept(), "kept", (f"its law cannot be drawn: {error}", *_told(origin))
    same = (f"the same draw as {origin.copy_of}",) if isinstance(law, Copy) else ()
    return law, "own", same + _told(origin)


def _law(slot: Slot, found: Recording | None, read_values: bool) -> Basic:
    origin = found.get(slot.name) if found is not None else None
    if found is not None and origin is not None and origin.shape == tuple(slot.tensor.shape):
        return from_origin(origin, found)
    tensor = slot.tensor.detach()
    if tensor.is_meta:
        return Kept(), "kept", (UNKNOWN,)
    if not read_values or not tensor.is_floating_point() or is_distributed(tensor):
        return Kept(), "kept", (UNREAD,)
    numbers = tensor.cpu().numpy() if tensor.dtype == torch.float64 else tensor.float().cpu().numpy()
    law = law_of_values(numbers, str(tensor.dtype)) if tensor.dtype in FORMATS else None
    return (Kept(), "kept", (NO_DRAW,)) if law is None else (law, "values", (SHOWN,))


def _told(origin: Origin) -> tuple[str, ...]:
    """Return the writes of a tensor in order, each once."""
    lines = dict.fromkeys(origin.history)
    return tuple(line if place == 0 else f"then {line}" for place, line in enumerate(lines))


def _overridden(override: Override) -> Basic:
    if not isinstance(override.choice, Law):
        raise PlanError(
            f"override {override.pattern!r}: {override.choice!r} needs fans, and without inputs there are none. "
            "Give inputs, or a law such as Normal(0.02)."
        )
    return override.choice, "override", (f"override {override.pattern!r}",)


def _is_persistent(model: nn.Module, name: str) -> bool:
    slot = buffer_slots(model)[name]
    return any(attribute not in module._non_persistent_buffers_set for module, attribute in slot.places)
