"""A copy of the model whose parameters and buffers are stand-ins: what runs instead of the user's own model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from stepzero.network._meta import stand_in
from stepzero.network._names import buffer_slots, canonical_name, parameter_slots


@dataclass(slots=True)
class Leaf:
    """One parameter or buffer: the user's tensor, its stand-in, and every name that it goes by."""

    original: torch.Tensor
    home: torch.Tensor
    parameter: bool
    names: tuple[str, ...]  # canonical
    copies: list[torch.Tensor] = field(default_factory=list)  # the same in scripted submodules


@dataclass(slots=True)
class Twin:
    """The copy, and its leaves in the order of `named_parameters` and `named_buffers`."""

    model: nn.Module
    leaves: list[Leaf]


def twin_of(model: nn.Module, *, on_meta: bool) -> Twin:
    """Return a copy of a model that may be run, hooked and thrown away.

    Args:
        model: The user's model. Nothing of it is changed.
        on_meta: Stand-ins without numbers; otherwise real ones (copies, or plausible values for tensors on meta).
    """
    leaves = _leaves(model, _on_meta if on_meta else _real)
    memo: dict[int, Any] = {id(leaf.original): leaf.home for leaf in leaves}
    memo |= {id(t): t.detach() for t in _loose_tensors(model) if id(t) not in memo}
    try:
        twin = copy.deepcopy(model, dict(memo))
    except Exception:  # locks, generators, open files: copy the modules and share the rest
        twin = _shallow(model, memo)
    return Twin(twin, _found_again(twin, leaves))


def _leaves(model: nn.Module, make: Callable[[str, torch.Tensor], torch.Tensor]) -> list[Leaf]:
    slots = [(True, slot) for slot in parameter_slots(model).values()]
    slots += [(False, slot) for slot in buffer_slots(model).values()]
    return [Leaf(slot.tensor, make(slot.name, slot.tensor), parameter, slot.names) for parameter, slot in slots]


def _on_meta(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return _as(tensor, stand_in(tensor.detach()))


def _real(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.device.type != "meta":
        return _as(tensor, tensor.detach().cpu().clone())
    return _as(tensor, _plausible(name, torch.empty_like(tensor, device="cpu", requires_grad=False)))


def _plausible(name: str, numbers: torch.Tensor) -> torch.Tensor:
    """Fill a tensor so that a forward pass stays finite; control flow on these numbers is recorded as assumed."""
    if not numbers.dtype.is_floating_point:
        return numbers.zero_()
    if numbers.dim() < 2:
        return numbers.fill_(0.0 if "bias" in name or "mean" in name else 1.0)
    generator = torch.Generator().manual_seed(0)
    return numbers.normal_(0.0, numbers[0].numel() ** -0.5, generator=generator)


def _as(original: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` as a parameter if the original is one."""
    if isinstance(original, nn.Parameter):
        return nn.Parameter(tensor, requires_grad=original.requires_grad)
    return tensor.requires_grad_(original.requires_grad)


def _loose_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield tensors that modules hold as plain attributes (weight norm keeps a non-leaf, which cannot be copied)."""
    for module in model.modules():
        for thing in list(vars(module).values()):
            for part in thing if isinstance(thing, (tuple, list)) else (thing,):
                if isinstance(part, torch.Tensor):
                    yield part


def _shallow(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Return a copy of every module of the tree, with attributes shared except tensors and submodules."""
    copies: dict[int, nn.Module] = {id(m): object.__new__(type(m)) for m in model.modules()}
    for module in model.modules():
        twin = vars(copies[id(module)])
        twin |= {name: memo.get(id(thing), thing) for name, thing in vars(module).items()}
        for group in ("_parameters", "_buffers"):
            twin[group] = {name: memo.get(id(tensor), tensor) for name, tensor in vars(module)[group].items()}
        twin["_modules"] = {name: copies.get(id(child), child) for name, child in vars(module)["_modules"].items()}
        for name, thing in list(twin.items()):
            if name.endswith(("_hooks", "_hooks_with_kwargs")):
                twin[name] = copy.copy(thing)
    return copies[id(model)]


def _found_again(twin: nn.Module, leaves: list[Leaf]) -> list[Leaf]:
    """Note the tensors of scripted submodules, which copy themselves without asking for stand-ins."""
    by_name = {name: leaf for leaf in leaves for name in leaf.names}
    for named in (twin.named_parameters, twin.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            leaf = by_name.get(canonical_name(name))
            if leaf is not None and leaf.home is not tensor:
                leaf.copies.append(tensor)
    return leaves
