"""From the origin of a tensor to one law that can be drawn, sharded and saved."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from stepzero.errors import LawError
from stepzero.laws import Copy, Law, Parts, Values
from stepzero.network._names import buffer_slots, parameter_slots
from stepzero.network._origin import Origin, Part
from stepzero.network._record import recording


def recorded_laws(model: nn.Module) -> dict[str, Law]:
    """Return the recorded law of each parameter and buffer of a model that `build` made, where one is known."""
    found = recording(model)
    laws: dict[str, Law] = {}
    for name, slot in (parameter_slots(model) | buffer_slots(model)).items() if found is not None else ():
        origin = found.get(name) if found is not None else None
        if origin is not None and origin.known and origin.shape == tuple(slot.tensor.shape):
            try:
                laws[name] = law_of_origin(origin, found or {})
            except LawError:
                continue  # what asks for it says that nothing is known
    return laws


def law_of_origin(origin: Origin, found: Mapping[str, Origin]) -> Law:
    """Return one law for a tensor whose parts are known: its own, that of a copy, of boxes, or of given numbers.

    Raises:
        LawError: if it holds what no law describes, or no tensor of its shape can follow the law.
    """
    law, owner = _law(origin), found.get(origin.copy_of)
    law.require(origin.shape)
    copied = owner is not None and owner.known and owner.shape == origin.shape and _law(owner) == law
    return Copy(origin.copy_of, law) if copied else law


def _law(origin: Origin) -> Law:
    if origin.law is not None:
        return origin.law
    if len(origin.parts) == 1:
        return _of_part(origin.parts[0])
    return Parts(tuple((tuple((cut.start, cut.stop) for cut in part.where), _of_part(part)) for part in origin.parts))


def _of_part(part: Part) -> Law:
    if part.law is not None:
        return part.law
    assert part.values is not None
    numbers = part.values.detach().cpu()
    if numbers.is_complex() or not bool(numbers.isfinite().all()):
        raise LawError(
            "complex numbers and infinities are no law. Give the tensor its values: materialize_(…, values={…})."
        )
    return Values.of(numbers.to(torch.promote_types(numbers.dtype, torch.float32)).numpy())
