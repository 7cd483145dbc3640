"""Write a plan's values into a model in place: all of them, or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from stepzero import streams
from stepzero.network import Slot

from ._accelerator import fill_tensor
from ._arrays import as_array
from ._buffers import reset
from ._match import Entries, Target, kept, match
from ._receipt import Receipt, Written
from ._spectral import stale_vectors


def apply(plan: Entries, model: nn.Module, seed: int = 0, *, restorable: bool = True) -> Receipt:
    """Draw every parameter that the plan lists into the model, in place, and say what was done.

    Values depend on seed, canonical name and index alone: not on layout, device, sharding or the order of layers. Tied parameters
    are written once, padding rows of embeddings stay zero, and what the plan keeps or does not list is not touched; but the vectors of
    spectral norms (parametrisations) are iterated anew on the weights that were drawn.

    Args:
        plan: Canonical name → entry with shape, dtype and law.
        model: The model; its own number formats are kept, values are rounded to them.
        seed: 0 ≤ seed < 2^64.
        restorable: Hold a copy of the old values until all is written, so that an interrupt restores them. False saves that memory.

    Raises:
        ApplyError: if plan and model disagree; the model is as it was.
        SeedError: if the seed is out of range.
    """
    targets = match(plan, model, seed)
    stale = stale_vectors(model, {target.slot.name for target in targets})
    with restoring(targets, stale.values()) if restorable else _unguarded():
        write_all(targets, seed)
        for slot in stale.values():
            reset(slot, model, seed)
    return Receipt(seed, tuple(map(written, targets)), kept(plan, model), tuple(stale))


def write_all(targets: tuple[Target, ...], seed: int) -> None:
    """Draw every parameter, by the engine that pays for so many elements."""
    engine = streams.engine("auto", sum(piece.region.size for target in targets for piece in target.held)).name
    for target in targets:
        write(target, seed, engine)


def write(target: Target, seed: int, engine: streams.EngineName) -> None:
    """Draw what this process holds of one parameter."""
    name = target.slot.name
    for piece in target.held:
        if piece.tensor.device.type == "cpu":
            array = as_array(piece.tensor)
            streams.fill(array, target.law, seed, name, piece.region, dtype=target.dtype, threads=None, engine=engine)
        else:
            fill_tensor(piece.tensor, target.law, seed, name, piece.region)
        if target.zero_row is not None:
            _zero(piece.tensor, piece.region.axes[0], target.zero_row)
        torch.autograd.graph.increment_version(piece.tensor)  # a graph that saved the old values must notice


def written(target: Target) -> Written:
    """Return the line of the receipt for a parameter."""
    note = "" if target.zero_row is None else f"row {target.zero_row} zero: padding"
    return Written(target.slot.name, tuple(target.slot.tensor.shape), target.dtype, target.law, note)


def _zero(tensor: torch.Tensor, rows: range, row: int) -> None:
    if row in rows:
        tensor.detach()[rows.index(row)] = 0


@contextmanager
def restoring(targets: tuple[Target, ...], buffers: Iterable[Slot] = ()) -> Iterator[None]:
    """Put the old values back if the block does not end well."""
    pieces = [piece.tensor.detach() for target in targets for piece in target.held] + [slot.tensor for slot in buffers]
    old = [tensor.clone() for tensor in pieces]
    try:
        yield
    except BaseException:
        for tensor, values in zip(pieces, old, strict=True):
            tensor.copy_(values)
        raise


@contextmanager
def _unguarded() -> Iterator[None]:
    yield
