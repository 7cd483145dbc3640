"""Numbers that follow from constants, buffers and integer inputs alone, kept beside the tensors on meta.

A *shadow* is the real tensor behind a stand-in. Shadows share memory exactly as the stand-ins do, so running an op on the
shadows keeps them true through views and in-place writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from stepzero.network._graph import Value

LIMIT = 64 * 2**20  # bytes of one shadow; a 4096 x 4096 boolean mask has 16 MiB
BUDGET = 512 * 2**20  # bytes of all of them
GUESS = 0.999  # a scalar random number: layer drop asks for `rand < p` and must keep the layer


@dataclass(slots=True)
class Shadow:
    """Real numbers behind a stand-in."""

    tensor: torch.Tensor
    certain: bool  # False: assumed for the sake of control flow (a random scalar, "no value is infinite")


@dataclass(slots=True)
class Shadows:
    """The arguments of one op with real numbers, and what it makes of them (computed once, when asked for)."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    certain: bool
    _result: Any = None
    _ran: bool = False

    def run(self, func: Callable[..., Any]) -> Any:
        if not self._ran:
            self._result, self._ran = func(*self.args, **self.kwargs), True
        return self._result


class Known:
    """The shadows of all live tensors."""

    def __init__(self) -> None:
        self._of: dict[int, Shadow] = {}  # id of the stand-in
        self._sharing: dict[int, set[int]] = {}  # storage of the stand-in → ids of stand-ins with a shadow
        self._shown: dict[int, list[Value]] = {}  # storage of the shadow → values that show it
        self._bytes = 0

    def get(self, tensor: torch.Tensor) -> Shadow | None:
        return self._of.get(id(tensor))

    def put(self, tensor: torch.Tensor, numbers: torch.Tensor, *, certain: bool = True) -> None:
        """Give a stand-in its numbers."""
        storage = numbers.untyped_storage()
        if storage._cdata not in self._shown:
            self._shown[storage._cdata] = []
            self._bytes += storage.nbytes()
        self._of[id(tensor)] = Shadow(numbers, certain)
        self._sharing.setdefault(tensor.untyped_storage()._cdata, set()).add(id(tensor))

    def show(self, tensor: torch.Tensor, value: Value) -> None:
        """Let a recorded value carry the numbers of its tensor, if they are certain."""
        shadow = self._of.get(id(tensor))
        if shadow is not None and shadow.certain:
            value.known = shadow.tensor
            self._shown[shadow.tensor.untyped_storage()._cdata].append(value)

    def forget(self, tensor: torch.Tensor) -> None:
        """Drop the numbers of every tensor that shares memory with one that was written with unknown values."""
        for key in self._sharing.pop(tensor.untyped_storage()._cdata, ()):
            self._of.pop(key, None)

    def before_write(self, tensor: torch.Tensor) -> None:
        """Copy the numbers that recorded values show, since the memory behind them is about to change."""
        shadow = self._of.get(id(tensor))
        if shadow is None:
            return
        for value in self._shown[shadow.tensor.untyped_storage()._cdata]:
            value.known = None if value.known is None else value.known.clone()
        self._shown[shadow.tensor.untyped_storage()._cdata] = []

    def doubt(self, tensor: torch.Tensor) -> None:
        """Mark everything that shares memory with `tensor` as assumed."""
        for key in self._sharing.get(tensor.untyped_storage()._cdata, ()):
            self._of[key].certain = False

    def room_for(self, result: Any) -> bool:
        """Say whether the numbers of an op with this result on meta are small enough to keep."""
        parts = result if isinstance(result, (tuple, list)) else (result,)
        needed = sum(part.nbytes for part in parts if isinstance(part, torch.Tensor))
        return needed <= LIMIT and self._bytes + needed <= BUDGET


def finite(func: Callable[..., torch.Tensor], tensor: torch.Tensor) -> torch.Tensor:
    """Return what isnan, isinf or isfinite say of a tensor without bad values, in one element of memory."""
    return func(torch.zeros((), dtype=tensor.dtype)).expand(tensor.shape)


ASSUMED_FINITE = frozenset({"isnan", "isinf", "isfinite", "isneginf", "isposinf"})
RANDOM_SCALARS = frozenset({"rand", "rand_like"})
