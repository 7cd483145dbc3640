"""Which elements of the logical tensor are in the memory of this process: all of a plain tensor, a shard of a distributed one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

import torch

from stepzero.errors import ApplyError
from stepzero.streams import Region

Segments = list[range]  # the positions held along one axis, in the order of memory


@dataclass(frozen=True, slots=True)
class Holding:
    """A piece of memory, and the region of the logical tensor that lives in it."""

    tensor: torch.Tensor
    region: Region


def holdings(name: str, tensor: torch.Tensor) -> tuple[Holding, ...]:
    """Return the pieces of a tensor that this process holds; none where its rank is not part of the mesh.

    Raises:
        ApplyError: if a placement of a distributed tensor is unknown, or holds no values of its own.
    """
    if not is_distributed(tensor):
        return (Holding(tensor, Region(tuple(tensor.shape))),)
    distributed: Any = tensor.detach()
    mesh, local = distributed.device_mesh, distributed.to_local()
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        return ()
    shape = tuple(tensor.shape)
    held = positions(name, shape, distributed.placements, tuple(mesh.shape), coordinate)
    found = tuple(_pieces(local, shape, held))
    if sum(piece.region.size for piece in found) != local.numel():
        raise ApplyError(
            f"{name}: {distributed.placements} on a mesh of {tuple(mesh.shape)} holds other elements than its local "
            f"tensor of shape {tuple(local.shape)}. Nothing was written."
        )
    return found


def is_distributed(tensor: torch.Tensor) -> bool:
    """Say whether a tensor is a DTensor, without importing torch.distributed for those who have none."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def positions(
    name: str, shape: tuple[int, ...], placements: Sequence[Any], mesh: tuple[int, ...], coordinate: Sequence[int]
) -> list[Segments]:
    """Return, for each axis, the positions that the rank at `coordinate` holds: placements cut from the first mesh axis to the last.

    Raises:
        ApplyError: if a placement is unknown.
    """
    held: list[Segments] = [[range(size)] for size in shape]
    for placement, ranks, rank in zip(placements, mesh, coordinate, strict=True):
        cut = PLACEMENTS.get(type(placement).__name__)
        if cut is None:
            raise ApplyError(
                f"{name}: placement {placement!r} has no values of its own, or is unknown. "
                f"Known are {', '.join(PLACEMENTS)}. Redistribute the tensor first. Nothing was written."
            )
        cut(held, placement, ranks, rank)
    return held


def _chunk(held: Segments, parts: int, part: int) -> Segments:
    """Return what `torch.chunk` gives to `part`: ceil(length / parts) positions each, the last ones fewer or none."""
    length = sum(map(len, held))
    size = -(-length // parts)
    begin, end, found = part * size, min((part + 1) * size, length), []
    for segment in held:
        if kept := segment[max(begin, 0) : max(end, 0)]:
            found.append(kept)
        begin, end = begin - len(segment), end - len(segment)
    return found


def _shard(held: list[Segments], placement: Any, ranks: int, rank: int) -> None:
    held[placement.dim] = _chunk(held[placement.dim], ranks, rank)


def _strided_shard(held: list[Segments], placement: Any, ranks: int, rank: int) -> None:
    """Cut into `split_factor` chunks first, and take a part of each (FSDP over tensor parallelism)."""
    chunks = [_chunk(held[placement.dim], placement.split_factor, part) for part in range(placement.split_factor)]
    held[placement.dim] = [segment for chunk in chunks for segment in _chunk(chunk, ranks, rank)]


def _replicate(held: list[Segments], placement: Any, ranks: int, rank: int) -> None:
    """Leave everything to every rank."""


def _pieces(local: torch.Tensor, shape: tuple[int, ...], held: list[Segments]) -> Iterator[Holding]:
    for axes in product(*held):
        piece = local
        for axis, positions_held in enumerate(axes):
            before = held[axis][: held[axis].index(positions_held)]
            piece = piece.narrow(axis, sum(map(len, before)), len(positions_held))
        yield Holding(piece, Region(shape, axes))


Cut = Callable[[list[Segments], Any, int, int], None]
PLACEMENTS: Mapping[str, Cut] = MappingProxyType({
    "Shard": _shard, "_StridedShard": _strided_shard, "Replicate": _replicate,
})  # fmt: skip
