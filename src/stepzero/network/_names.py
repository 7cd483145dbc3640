"""Canonical parameter names: the same for a model whether it is compiled, sharded, checkpointed, replicated or bare."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from stepzero.errors import ModelError

# Path segments that wrappers put between a module and its child.
WRAPPERS = frozenset({
    "_orig_mod",  # torch.compile
    "_fsdp_wrapped_module",  # FullyShardedDataParallel
    "_checkpoint_wrapped_module",  # activation checkpointing
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor of a model, and every place that holds it.

    Args:
        name: Canonical name: that of its first place.
        names: Canonical names of all its places; a tied tensor has several.
        places: The modules that hold it, and under which attribute.
        tensor: The tensor itself.
    """

    name: str
    names: tuple[str, ...]
    places: tuple[tuple[nn.Module, str], ...]
    tensor: torch.Tensor


def canonical_name(name: str) -> str:
    """Return a parameter's name without the prefixes of wrappers.

    The segments `_orig_mod`, `_fsdp_wrapped_module` and `_checkpoint_wrapped_module` go wherever they stand, then every leading
    `module.` (data-parallel wrappers; a model whose own child is called `module` loses that prefix too, wrapped or not).

    Examples:
        >>> canonical_name("module._orig_mod.layers.0._checkpoint_wrapped_module.weight")
        'layers.0.weight'
    """
    segments = [segment for segment in name.split(".") if segment not in WRAPPERS]
    while len(segments) > 1 and segments[0] == "module":
        segments.pop(0)
    return ".".join(segments)


def parameter_slots(model: nn.Module) -> dict[str, Slot]:
    """Return every parameter once, by canonical name, in `named_parameters()` order; a tied one under its first name.

    Raises:
        ModelError: if two parameters have one canonical name.
    """
    return _slots(model, "_parameters")


def buffer_slots(model: nn.Module) -> dict[str, Slot]:
    """Return every buffer once, by canonical name, in `named_buffers()` order.

    Raises:
        ModelError: if two buffers have one canonical name.
    """
    return _slots(model, "_buffers")


def _slots(model: nn.Module, kind: str) -> dict[str, Slot]:
    found: dict[int, list[tuple[str, nn.Module, str, torch.Tensor]]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for attribute, tensor in getattr(module, kind).items():
            if tensor is not None:
                name = canonical_name(f"{path}.{attribute}" if path else attribute)
                found.setdefault(id(tensor), []).append((name, module, attribute, tensor))
    slots: dict[str, Slot] = {}
    for holders in found.values():
        names = tuple(dict.fromkeys(name for name, *_ in holders))
        if names[0] in slots:
            raise ModelError(
                f"two tensors are named {names[0]!r} once the prefixes of wrappers are stripped. Rename one of the modules."
            )
        places = {(id(module), attribute): (module, attribute) for _, module, attribute, _ in holders}
        slots[names[0]] = Slot(names[0], names, tuple(places.values()), holders[0][3])
    return slots
