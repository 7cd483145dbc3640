"""Which elements of the logical tensor are in the memory of this process: all of a plain tensor, a shard of a distributed one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stepzero.streams import Region


@dataclass(frozen=True, slots=True)
class Holding:
    """A piece of memory, and the region of the logical tensor that lives in it."""

    tensor: torch.Tensor
    region: Region


def holdings(tensor: torch.Tensor) -> tuple[Holding, ...]:
    """Return the pieces of a tensor that this process holds."""
    return (Holding(tensor, Region(tuple(tensor.shape))),)
