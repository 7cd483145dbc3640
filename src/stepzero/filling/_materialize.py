"""From the meta device to values: every parameter and every buffer written exactly once, or a list of what nobody knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from stepzero.errors import ApplyError
from stepzero.laws import Kept, Law
from stepzero.network import Slot, buffer_slots, parameter_slots, recorded_laws, unmoved

from ._apply import restoring, write_all, written
from ._buffers import Factory, constructed_buffers, reset, reset_of
from ._holdings import holdings
from ._match import Entries, kept, match
from ._receipt import Receipt
from ._spectral import stale_vectors


@unmoved
def materialize_(
    model: nn.Module,
    plan: Entries,
    seed: int = 0,
    device: torch.device | str | None = None,
    *,
    factory: Factory | None = None,
    values: Mapping[str, torch.Tensor] | None = None,
) -> Receipt:
    """Give memory to every meta tensor of a model, and write each parameter and buffer exactly once.

    What the plan does not draw follows the author's own init, where `stepzero.build` recorded it.

    What has memory already is drawn if the plan lists it, and left alone otherwise. Ties stay ties. Distributed tensors (FSDP2,
    tensor parallelism) stay distributed: each rank allocates and writes its own shard, with no communication.

    Args:
        model: On meta, as a whole or in part.
        plan: Canonical name → entry with shape, dtype and law.
        seed: 0 ≤ seed < 2^64.
        device: Where to; by default the device of a distributed tensor's mesh, and the CPU.
        factory: Makes the same model; run once, without its weights, for buffers that its constructor computes.
        values: Canonical name → tensor, for what neither plan nor layer nor factory knows.

    Raises:
        ApplyError: if plan and model disagree, or some tensors' values are known to nobody (all are listed); the model is as it was.
        SeedError: if the seed is out of range.
    """
    given = {**constructed_buffers(factory), **(values or {})}
    plan = _completed(plan, model, given)
    match(plan, model, seed, on_meta=True)
    sources = _sources(model, plan, given, seed)
    before = _Before.of(model)
    real = {slot.name for slot in before.slots if not slot.tensor.is_meta}
    try:
        _allocate(model, device, before)
        targets = match(plan, model, seed)
        stale = stale_vectors(model, {target.slot.name for target in targets})
        stale = {name: slot for name, slot in stale.items() if name in real and name not in sources}
        with restoring(tuple(target for target in targets if target.slot.name in real), stale.values()):
            write_all(targets, seed)
            for slot in stale.values():
                reset(slot, model, seed)
            for name, slot in {**parameter_slots(model), **buffer_slots(model)}.items():
                if name in sources:
                    sources[name](slot)
    except BaseException:
        before.restore(model)
        raise
    return Receipt(
        seed, tuple(map(written, targets)), tuple(n for n in kept(plan, model) if n not in sources), (*sources, *stale)
    )


@dataclass(frozen=True, slots=True)
class Recorded:
    """A tensor that the plan does not draw, and the law that its constructor drew it from."""

    shape: tuple[int, ...]
    dtype: str
    law: Law
    recipe: str = "own"


def _completed(plan: Entries, model: nn.Module, given: Mapping[str, torch.Tensor]) -> Entries:
    """Return a plan in which recorded laws stand for the meta tensors that it does not draw."""
    if not isinstance(model, nn.Module) or not isinstance(plan, Mapping):
        return plan  # what reads them next says so
    drawn = {name for name, entry in plan.items() if not isinstance(entry.law, Kept)}
    slots = {**parameter_slots(model), **buffer_slots(model)}
    return {**plan} | {
        name: Recorded(tuple(slots[name].tensor.shape), str(slots[name].tensor.dtype).removeprefix("torch."), law)
        for name, law in recorded_laws(model).items()
        if slots[name].tensor.is_meta and name not in drawn and name not in given
    }


Writer = Callable[[Slot], None]


def _sources(model: nn.Module, plan: Entries, values: Mapping[str, torch.Tensor], seed: int) -> dict[str, Writer]:
    """Return what writes each meta tensor that the plan does not draw.

    Raises:
        ApplyError: with the full list of tensors whose values nobody knows.
    """
    drawn = {name for name, entry in plan.items() if not isinstance(entry.law, Kept)}
    empty = {
        name: slot for name, slot in {**parameter_slots(model), **buffer_slots(model)}.items() if slot.tensor.is_meta
    }
    sources: dict[str, Writer] = {}
    unknown: list[str] = []
    for name, slot in empty.items():
        if name in values:
            sources[name] = _copied(values[name], slot)
        elif name in drawn:
            continue
        elif reset_of(slot, model):
            sources[name] = partial(reset, model=model, seed=seed)
        else:
            unknown.append(name)
    if unknown:
        raise ApplyError(
            f"nothing is known of the values of {len(unknown)} tensors on meta; nothing was written.\n"
            + "\n".join(f"  {name} {tuple(empty[name].tensor.shape)}" for name in unknown)
            + "\nGive a parameter a law (plan overrides), a buffer its constructor (factory=…), or either its value (values={…})."
        )
    return sources


def _copied(value: torch.Tensor, slot: Slot) -> Writer:
    """Return what writes a given value: of a distributed tensor, the parts that this rank holds."""
    if tuple(value.shape) != tuple(slot.tensor.shape) or value.dtype != slot.tensor.dtype:
        raise ApplyError(
            f"{slot.name}: the value given is {value.dtype} {tuple(value.shape)}, "
            f"the model has {slot.tensor.dtype} {tuple(slot.tensor.shape)}. Nothing was written."
        )

    def write_value(target: Slot) -> None:
        for piece in holdings(target.name, target.tensor):
            cut = tuple(slice(held.start, held.stop, held.step) for held in piece.region.axes)
            piece.tensor.detach().copy_(value[cut])

    return write_value


def _allocate(model: nn.Module, device: torch.device | str | None, before: _Before) -> None:
    """Replace meta tensors by unwritten memory, one for all places of a tie."""
    made: dict[int, torch.Tensor] = {}

    def with_memory(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_meta:
            return tensor
        if id(tensor) not in made:
            mesh = getattr(tensor, "device_mesh", None)
            made[id(tensor)] = empty_like(tensor, device or (mesh.device_type if mesh is not None else "cpu"))
        return made[id(tensor)]

    model._apply(with_memory)
    for slot in before.slots:  # `_apply` makes a parameter anew for each place
        module, attribute = slot.places[0]
        for other, name in slot.places[1:]:
            _place(slot, other, name, getattr(module, attribute))


def empty_like(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Return unwritten memory for a meta tensor."""
    return torch.empty_like(tensor, device=device)


def _place(slot: Slot, module: nn.Module, attribute: str, tensor: torch.Tensor) -> None:
    """Set a parameter or buffer without the checks and hooks of `setattr`."""
    stores: Any = (module._buffers, module._parameters)
    stores[isinstance(slot.tensor, nn.Parameter)][attribute] = tensor


@dataclass(frozen=True, slots=True)
class _Before:
    """The tensors of a model as they were, to put them back."""

    slots: tuple[Slot, ...]

    @classmethod
    def of(cls, model: nn.Module) -> _Before:
        return cls((*parameter_slots(model).values(), *buffer_slots(model).values()))

    def restore(self, model: nn.Module) -> None:
        for slot in self.slots:
            for module, attribute in slot.places:
                _place(slot, module, attribute, slot.tensor)
        with suppress(Exception):  # wrappers that track their parameters look again; the tensors are back either way
            model._apply(lambda tensor: tensor)
