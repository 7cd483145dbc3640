"""Which recorded value each live tensor stands for, through views and in-place writes.

A write bumps the version of the storage. A tensor that is read later, and whose view of that storage is stale, first goes
through a synthetic `alias_update` node that mixes its old value with what was written since.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch

from stepzero.errors import CaptureError
from stepzero.network._graph import Graph, Kind, Value

Geometry = tuple[tuple[int, ...], tuple[int, ...], int]  # size, stride, offset


@dataclass(slots=True)
class Write:
    """One in-place write: the value written, and where in the storage."""

    value: int
    geometry: Geometry
    dtype: torch.dtype
    grad: bool  # False: written under no_grad
    detached: bool  # written through a tensor that autograd does not connect to the others


@dataclass(slots=True)
class Entry:
    """A live tensor: the value that it stood for when its storage had this version."""

    tensor: torch.Tensor  # kept alive: ids are reused otherwise
    value: int
    version: int
    storage: int
    detached: bool = False  # it, or the tensor that it views, came from `detach`


@dataclass(slots=True)
class Storage:
    """The writes to one storage, and the last value with each geometry."""

    writes: list[Write] = field(default_factory=list)
    views: dict[Geometry, int] = field(default_factory=dict)  # → id of a tensor


Update = Callable[[Entry, Write], int]


class Tape:
    """The live tensors of a capture."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._entries: dict[int, Entry] = {}
        self._storages: dict[int, Storage] = {}

    def __contains__(self, tensor: torch.Tensor) -> bool:
        entry = self._entries.get(id(tensor))
        return entry is not None and entry.storage == _key(tensor)  # `w.data = x` gives a tensor other memory

    def leaf(self, tensor: torch.Tensor, kind: Kind, names: tuple[str, ...] = ()) -> Value:
        """Register a tensor that no op made."""
        value = self.new(tensor, kind, names)
        value.from_input, value.from_parameter = kind == "input", kind == "parameter"
        self.stands_for(tensor, value.id)
        return value

    def new(self, tensor: torch.Tensor, kind: Kind = "op", names: tuple[str, ...] = ()) -> Value:
        """Append a value shaped like `tensor` to the graph."""
        value = Value(len(self.graph.values), kind, names, tuple(tensor.shape), tensor.dtype)
        self.graph.values.append(value)
        return value

    def stands_for(self, tensor: torch.Tensor, value: int, *, detached: bool | None = None) -> None:
        """Let `tensor` stand for `value` from now on; `detached=None` keeps what is known of it."""
        storage = self._storage(tensor)
        before = self._entries.get(id(tensor))
        if detached is None:
            detached = before is not None and before.detached
        self._entries[id(tensor)] = Entry(tensor, value, len(storage.writes), _key(tensor), detached)
        storage.views[geometry(tensor)] = id(tensor)

    def written(self, tensor: torch.Tensor, value: int, *, grad: bool) -> None:
        """Say that the memory of `tensor` now holds `value`."""
        detached = self._entries[id(tensor)].detached
        self._storage(tensor).writes.append(Write(value, geometry(tensor), tensor.dtype, grad, detached))
        self.stands_for(tensor, value)

    def writes(self, tensor: torch.Tensor) -> list[Write]:
        """Return the in-place writes to the memory of a tensor, first to last."""
        return list(self._storage(tensor).writes)

    def views_detached(self, tensor: torch.Tensor, sources: Iterable[torch.Tensor]) -> bool:
        """Say whether `tensor` shares memory with a source that is detached."""
        return any(self._entries[id(s)].detached for s in sources if _key(s) == _key(tensor))

    def read(self, tensor: torch.Tensor, update: Update) -> int:
        """Return the value that `tensor` holds now; `update` records an `alias_update` and returns its value."""
        entry, storage = self._entries[id(tensor)], self._storage(tensor)
        for write in storage.writes[entry.version :]:
            same = write.geometry == geometry(tensor) and write.dtype == tensor.dtype
            if same and write.grad and write.detached == entry.detached:
                entry.value = write.value
            elif _overlap(write.geometry, geometry(tensor)):
                entry.value = update(entry, write)
        entry.version = len(storage.writes)
        return entry.value

    def made_on_meta(self) -> list[weakref.ref[torch.Tensor]]:
        """Return weak references to the tensors on meta that ops made."""
        values = self.graph.values
        entries = (e for e in self._entries.values() if values[e.value].node is not None and e.tensor.is_meta)
        return [weakref.ref(e.tensor) for e in entries]

    def same_memory(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return a live tensor with the same view of the same memory."""
        storage = self._storages.get(_key(tensor))
        twin = None if storage is None else storage.views.get(geometry(tensor))
        found = None if twin is None else self._entries[twin].tensor
        return found if found is not None and found.dtype == tensor.dtype else None

    def _storage(self, tensor: torch.Tensor) -> Storage:
        return self._storages.setdefault(_key(tensor), Storage())


def check_dense(tensor: torch.Tensor) -> None:
    """Raise CaptureError unless a tensor is a strided view of memory: what happens to others cannot be followed."""
    if tensor.layout is not torch.strided:
        kind = str(tensor.layout).removeprefix("torch.")
        raise CaptureError(f"a tensor of layout {kind} cannot be followed. Use its dense form, tensor.to_dense().")


def geometry(tensor: torch.Tensor) -> Geometry:
    """Return size, stride and offset of a tensor in its storage."""
    return tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset())


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _overlap(a: Geometry, b: Geometry) -> bool:
    """Say whether two views may touch the same element (by their first and last elements)."""
    if 0 in a[0] or 0 in b[0]:
        return False
    (a_first, a_last), (b_first, b_last) = _extent(a), _extent(b)
    return a_first <= b_last and b_first <= a_last


def _extent(where: Geometry) -> tuple[int, int]:
    size, stride, offset = where
    return offset, offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
