"""Numbers that follow from constants, buffers and integer inputs alone, kept beside the tensors on meta.

A *shadow* is the real tensor behind a stand-in. Shadows share memory exactly as the stand-ins do, so running an op on the
shadows keeps them true through views and in-place writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from stepzero.network._graph import Value
from stepzero.network._ops import Call, tensors_of
from stepzero.network._walk import replace_tensors

LIMIT = 64 * 2**20  # bytes of one shadow; a 4096 x 4096 boolean mask has 16 MiB
UNWRITTEN = 16 * 2**20  # the same where nothing is written yet: a weight as a rule, sometimes a table of positions
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

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
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
        if shadow is not None and shadow.certain and not _has_holes(shadow.tensor):
            value.known = shadow.tensor
            self._shown.setdefault(shadow.tensor.untyped_storage()._cdata, []).append(value)

    def forget(self, tensor: torch.Tensor) -> None:
        """Drop the numbers of every tensor that shares memory with one that was written with unknown values."""
        for key in self._sharing.pop(tensor.untyped_storage()._cdata, ()):
            shadow = self._of.pop(key, None)
            storage = None if shadow is None else shadow.tensor.untyped_storage()
            if storage is not None and self._shown.get(storage._cdata) == []:  # nobody else holds this memory
                del self._shown[storage._cdata]
                self._bytes -= storage.nbytes()

    def before_write(self, tensor: torch.Tensor) -> None:
        """Copy the numbers that recorded values show, since the memory behind them is about to change."""
        shadow = self._of.get(id(tensor))
        if shadow is None:
            return
        storage = shadow.tensor.untyped_storage()._cdata
        for value in self._shown.get(storage, ()):
            value.known = None if value.known is None else value.known.clone()
        self._shown[storage] = []

    def doubt(self, tensor: torch.Tensor) -> None:
        """Mark everything that shares memory with `tensor` as assumed."""
        for key in self._sharing.get(tensor.untyped_storage()._cdata, ()):
            self._of[key].certain = False

    def share(self, source: torch.Tensor, tensor: torch.Tensor) -> None:
        """Give `tensor` the numbers of `source`, which it shares memory with."""
        if (shadow := self.get(source)) is not None:
            self.put(tensor, shadow.tensor, certain=shadow.certain)

    def shadows(self, call: Call) -> Shadows | None:
        """Return the arguments with real numbers in the place of stand-ins, or None where one is unknown."""
        unknown = False

        def numbers(name: str, argument: Any) -> Any:
            def of(tensor: torch.Tensor) -> torch.Tensor | None:
                nonlocal unknown
                found = _number(call, name, self.get(tensor), tensor)
                unknown = unknown or found is None
                return found

            return _on_cpu(replace_tensors(of, argument))

        args = tuple(numbers(name, a) for name, a in zip(call.schema.names, call.args, strict=False))
        kwargs = {name: numbers(name, a) for name, a in call.kwargs.items()}
        if unknown:
            return None
        used = [s for t in call.tensors if (s := self.get(t)) is not None and not _renewed(call, s, t)]
        if not call.schema.aliases and any(_has_holes(s.tensor) for t in call.read if (s := self.get(t)) is not None):
            return None  # what nobody has written is not known; a view of it may still be filled
        return Shadows(args, kwargs, certain=all(shadow.certain for shadow in used))

    def follow(self, call: Call, result: Any, shadows: Shadows | None) -> None:
        """Give what an op made its numbers; what it overwrote with unknown ones loses its own."""
        numbers = None if shadows is None else self._numbers(call, result, shadows)
        certain = shadows is not None and shadows.certain
        if call.op in EMPTY and isinstance(result, torch.Tensor):
            certain = certain and result.dtype in NAN_TYPES
        if numbers is None:
            for tensor in call.written:
                self.forget(tensor)
            numbers, certain = _guess(call, result), False
        if numbers is None:
            return
        for tensor, real in zip(tensors_of(result), tensors_of(numbers), strict=True):
            if self.get(tensor) is None:
                self.put(tensor, real, certain=certain)

    def _numbers(self, call: Call, result: Any, shadows: Shadows) -> Any:
        if not self.room_for(result, UNWRITTEN if call.op in EMPTY else LIMIT):
            return None
        for tensor in call.written:
            self.before_write(tensor)
            shadow = self.get(tensor)
            if shadow is None or _renewed(call, shadow, tensor):
                self.forget(tensor)  # what shares its memory would keep the old numbers
            if not shadows.certain:
                self.doubt(tensor)
        try:
            numbers = shadows.run(call.func)
            return _emptied(numbers) if call.op in EMPTY else numbers
        except (RuntimeError, NotImplementedError):  # no CPU kernel for this type: the numbers stay unknown
            return None

    def room_for(self, result: Any, limit: int | None = None) -> bool:
        """Say whether the numbers of an op with this result on meta are small enough to keep."""
        parts = result if isinstance(result, (tuple, list)) else (result,)
        needed = sum(t.nbytes for t in parts if isinstance(t, torch.Tensor))
        return needed <= min(LIMIT, limit or LIMIT) and self._bytes + needed <= self._budget


def _number(call: Call, name: str, shadow: Shadow | None, tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the numbers of one argument, zeros where only its shape matters, or None."""
    if shadow is not None and not _renewed(call, shadow, tensor):
        return shadow.tensor
    if name not in call.schema.shape_only:
        return None
    if name not in call.schema.written:
        return torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
    whole = _is_whole(tensor)
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype) if whole else None


def _is_whole(tensor: torch.Tensor) -> bool:
    """Say whether a tensor is all of its memory, so that whatever shares it is overwritten with it."""
    return tensor.untyped_storage().nbytes() == tensor.nbytes


def _renewed(call: Call, shadow: Shadow, tensor: torch.Tensor) -> bool:
    """Say whether doubtful numbers are overwritten as a whole, and so of no more account."""
    return not shadow.certain and call.schema.overwrites(call, tensor) and _is_whole(tensor)


def _emptied(numbers: torch.Tensor) -> torch.Tensor:
    """Mark memory that nobody has written to: with NaN where there is one, so that holes show until they are filled."""
    return numbers.fill_(math.nan) if numbers.dtype in NAN_TYPES else numbers.zero_()


def _has_holes(numbers: torch.Tensor) -> bool:
    return numbers.dtype in NAN_TYPES and bool(numbers.isnan().any())


def _guess(call: Call, result: Any) -> Any:
    """Answer what control flow may ask of activations: nothing is infinite, a random scalar keeps the layer, all are chosen."""
    if call.op in CHOOSING and call.args[0].is_meta and sum(t.nbytes for t in tensors_of(result)) <= UNWRITTEN:
        return CHOOSING[call.op](call)
    if not isinstance(result, torch.Tensor):
        return None
    if call.op in ASSUMED_FINITE:  # one element of memory
        answer: torch.Tensor = call.func(torch.zeros(())).expand(result.shape)
        return answer
    if call.op in RANDOM_SCALARS and result.numel() == 1:
        return torch.full(result.shape, GUESS, dtype=result.dtype)
    return None


def _on_cpu(argument: Any) -> Any:
    return torch.device("cpu") if isinstance(argument, torch.device) else argument


EMPTY = frozenset({"empty", "empty_strided", "empty_like", "empty_permuted", "new_empty", "new_empty_strided"})
NAN_TYPES = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128})
ASSUMED_FINITE = frozenset({"isnan", "isinf", "isfinite", "isneginf", "isposinf"})
RANDOM_SCALARS = frozenset({"rand", "rand_like"})
CHOOSING: Mapping[str, Callable[[Call], Any]] = MappingProxyType(
    {  # which elements an op picks, where it keeps every one: detection loops over the classes of those
        "nonzero": lambda call: torch.ones(call.args[0].shape).nonzero(),
        "nonzero_numpy": lambda call: torch.ones(call.args[0].shape).nonzero(as_tuple=True),
        "where": lambda call: torch.ones(call.args[0].shape).nonzero(as_tuple=True) if len(call.args) == 1 else None,
        "torchvision::nms": lambda call: torch.arange(len(call.args[0])),
    }
)
