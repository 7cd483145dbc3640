"""Hold a plan against a model before anything is written: every disagreement is found here, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

import torch
from torch import nn

from stepzero import streams
from stepzero.errors import ApplyError, LawError, ModelError
from stepzero.laws import Kept, Law
from stepzero.network import Slot, buffer_slots, parameter_slots

from ._arrays import FORMATS, ReadOnlyMemory, first_overlap, overlaps_itself
from ._holdings import Holding, holdings


class Entry(Protocol):
    """What filling reads of a plan's entry."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole tensor."""

    @property
    def dtype(self) -> str:
        """Number format."""

    @property
    def law(self) -> Law:
        """Distribution."""


Entries = Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Target:
    """One parameter to write."""

    slot: Slot
    law: Law
    held: tuple[Holding, ...]
    zero_row: int | None = None  # the padding row of an embedding

    @property
    def dtype(self) -> str:
        """Number format, as streams name it."""
        return FORMATS[self.slot.tensor.dtype]


def match(plan: Entries, model: nn.Module, seed: int, *, on_meta: bool = False) -> tuple[Target, ...]:
    """Return what is to be written, in the model's order; `on_meta` allows tensors that have no memory yet.

    Raises:
        ApplyError: if the plan names what the model does not have, or a tensor cannot take its law; the first few are listed.
        SeedError: if the seed is out of range.
    """
    streams.checked_seed(seed)
    slots = _slots(model)
    slots |= {name: slot for name, slot in buffer_slots(model).items() if name in plan}
    _require_names(plan, slots)
    wanted = [(slots[name], plan[name]) for name in slots if name in plan and not isinstance(plan[name].law, Kept)]
    problems = [problem for slot, entry in wanted if (problem := mismatch(slot, entry))]
    if problems:
        more = f"\n… and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ApplyError("the plan does not fit the model; nothing was written.\n" + "\n".join(problems[:5]) + more)
    targets = tuple(
        Target(slot, entry.law, holdings(slot.name, slot.tensor), None if is_own(entry) else padding_row(slot))
        for slot, entry in wanted
    )
    _require_memory(targets, on_meta)
    return targets


def kept(plan: Entries, model: nn.Module) -> tuple[str, ...]:
    """Return the parameters of the model that a plan leaves alone."""
    return tuple(name for name in parameter_slots(model) if name not in plan or isinstance(plan[name].law, Kept))


def mismatch(slot: Slot, entry: Entry) -> str | None:
    """Return why a tensor cannot take its entry's law, or None."""
    tensor = slot.tensor
    if nn.parameter.is_lazy(tensor):
        return f"{slot.name}: it has no shape yet. Run the model once, so that its lazy modules learn their shapes."
    if hasattr(tensor, "ds_id") and tensor.numel() == 0:
        return f"{slot.name}: DeepSpeed ZeRO-3 keeps it partitioned. Apply the plan within deepspeed.zero.GatheredParameters."
    if tuple(tensor.shape) != tuple(entry.shape):
        return f"{slot.name}: shape {tuple(tensor.shape)} in the model, {tuple(entry.shape)} in the plan."
    if tensor.dtype not in FORMATS:
        return f"{slot.name}: {tensor.dtype} cannot be drawn. Choose one of {', '.join(FORMATS.values())}."
    if tensor.dtype.is_complex != entry.dtype.startswith("complex"):
        return f"{slot.name}: {FORMATS[tensor.dtype]} in the model, {entry.dtype} in the plan."
    try:
        streams.require_drawable(entry.law, tuple(entry.shape), FORMATS[tensor.dtype])
    except LawError as error:
        return f"{slot.name}: {error}"
    return None


def is_own(entry: Entry) -> bool:
    """Say whether an entry has the law that the model's author gave it: that tells of every row, padding or not."""
    return getattr(entry, "recipe", "") == "own"


def padding_rows(model: nn.Module, plan: Entries | None = None) -> dict[str, int]:
    """Return the rows of a model's embeddings that stand for padding and stay zero, by the canonical name of the table.

    Args:
        model: The model.
        plan: Where it has an author's own law for a table, that decides about the row.
    """
    own = {name for name, entry in (plan or {}).items() if is_own(entry)}
    rows = {name: padding_row(slot) for name, slot in parameter_slots(model).items() if name not in own}
    return {name: row for name, row in rows.items() if row is not None}


def padding_row(slot: Slot) -> int | None:
    """Return the row of an embedding that stands for padding, and stays zero."""
    for module, attribute in slot.places:
        if attribute == "weight" and isinstance(module, nn.Embedding | nn.EmbeddingBag):
            return module.padding_idx
    return None


def _slots(model: nn.Module) -> dict[str, Slot]:
    if not isinstance(model, nn.Module):
        raise ApplyError(f"{type(model).__name__} is not a torch.nn.Module. Pass the model that the plan was made for.")
    try:
        return parameter_slots(model)
    except ModelError as error:
        raise ApplyError(str(error)) from None


def _require_names(plan: Entries, slots: Mapping[str, Slot]) -> None:
    aliases = {alias: slot.name for slot in slots.values() for alias in slot.names}
    for name in plan:
        if name in slots:
            continue
        if name in aliases:
            raise ApplyError(
                f"{name} is tied to {aliases[name]}: give the plan one entry, under that name. Nothing was written."
            )
        close = get_close_matches(name, slots, n=3)
        hint = f" Did you mean {', '.join(close)}?" if close else f" It has {len(slots)} others."
        raise ApplyError(f"the model has no parameter {name!r}; nothing was written.{hint}")


def _require_memory(targets: tuple[Target, ...], on_meta: bool) -> None:
    locked = ReadOnlyMemory()
    pieces = [(target.slot.name, piece.tensor) for target in targets for piece in target.held]
    pieces = [(name, tensor) for name, tensor in pieces if not (on_meta and tensor.is_meta)]
    for name, tensor in pieces:
        if tensor.is_meta:
            raise ApplyError(
                f"{name} is on the meta device and has no memory. Use stepzero.materialize_(model, plan). Nothing was written."
            )
        if tensor.layout != torch.strided or tensor.is_conj() or tensor.is_neg():
            raise ApplyError(f"{name} is not a plain strided tensor ({tensor.layout}). Nothing was written.")
        if overlaps_itself(tensor):
            raise ApplyError(
                f"{name}: elements share memory (strides {tensor.stride()}). Pass a copy. Nothing was written."
            )
        if tensor.device.type == "cpu" and tensor.numel() and locked.holds(tensor):
            raise ApplyError(
                f"{name} lies in memory that cannot be written (a file mapped read-only?). Pass a copy. Nothing was written."
            )
    if found := first_overlap((name, tensor) for name, tensor in pieces if tensor.device.type == "cpu"):
        raise ApplyError(f"{found[0]} and {found[1]} share memory without being tied. Nothing was written.")
