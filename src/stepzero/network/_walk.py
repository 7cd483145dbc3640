"""Find or replace the tensors inside arguments and results, whatever Python object holds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

ATOMS = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device, torch.nn.Module, type)


def tensors_in(thing: Any) -> list[torch.Tensor]:
    """Return every tensor that an object holds, each once, in the order of its fields.

    Tuples, lists, mappings, dataclasses and plain objects with attributes are entered; modules are not.
    """
    return list(_walk(thing, set()))


def _walk(thing: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    if isinstance(thing, ATOMS) or callable(thing) or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        yield thing
        return
    for part in _parts(thing):
        yield from _walk(part, seen)


def _parts(thing: Any) -> list[Any]:
    if isinstance(thing, Mapping):
        return list(thing.values())
    if isinstance(thing, (tuple, list, set, frozenset)):
        return list(thing)
    if dataclasses.is_dataclass(thing):
        return [getattr(thing, field.name, None) for field in dataclasses.fields(thing)]
    return list(vars(thing).values()) if hasattr(thing, "__dict__") else []


def replace_tensors(change: Callable[[torch.Tensor], Any], thing: Any) -> Any:
    """Return `thing` with each tensor in its tuples, lists and dicts changed; other objects pass as they are."""
    if isinstance(thing, torch.Tensor):
        return change(thing)
    if isinstance(thing, tuple) and hasattr(thing, "_fields"):
        return type(thing)(*(replace_tensors(change, part) for part in thing))
    if isinstance(thing, (tuple, list)):
        return type(thing)(replace_tensors(change, part) for part in thing)
    if type(thing) is dict:
        return {key: replace_tensors(change, part) for key, part in thing.items()}
    return thing
