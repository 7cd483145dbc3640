"""A law into the memory of a tensor: by torch's generators, or from the streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import init as torch_init

from stepzero import laws, streams
from stepzero.errors import ApplyError
from stepzero.filling._accelerator import fill_tensor
from stepzero.filling._arrays import FORMATS, as_array
from stepzero.filling._holdings import holdings
from stepzero.laws import Law

Generator: TypeAlias = torch.Generator | None


def draw_by_torch(tensor: Tensor, law: Law, generator: Generator) -> None:
    """Write values of a law as torch.nn.init would draw them.

    Raises:
        LawError: if a tensor of this shape cannot follow the law.
    """
    law.require(tuple(tensor.shape))
    SAMPLERS[type(law)](tensor, law, generator)


def draw_by_seed(tensor: Tensor, law: Law, seed: int, name: str) -> None:
    """Write the values of a law in the stream of (seed, name): the same on every device, layout and number of ranks.

    Raises:
        ApplyError: if the tensor has no memory, or a number format that holds no random numbers.
        LawError: if a tensor of this shape or format cannot follow the law.
        SeedError: if the seed is out of range.
    """
    if tensor.is_meta:
        raise ApplyError("a meta tensor has no memory: nothing can be written. Materialise it first.")
    if tensor.dtype not in FORMATS:
        raise ApplyError(f"{tensor.dtype} holds no drawn values. Choose one of {', '.join(map(str, FORMATS))}.")
    kind = FORMATS[tensor.dtype]
    streams.require_drawable(law, tuple(tensor.shape), kind)
    for piece in holdings(name or "the tensor", tensor):
        if piece.tensor.device.type == "cpu":
            streams.fill(as_array(piece.tensor), law, seed, name, piece.region, dtype=kind)
        else:
            fill_tensor(piece.tensor, law, seed, name, piece.region)
        torch.autograd.graph.increment_version(piece.tensor)


def _orthogonal(tensor: Tensor, law: Any, generator: Generator) -> None:
    """Each block by itself; formats without a QR decomposition are drawn in float32 and rounded."""
    short = tensor.dtype in (torch.float16, torch.bfloat16)
    wide = tensor.float() if short else tensor
    for block in wide.chunk(law.blocks):
        torch_init.orthogonal_(block, law.gain, generator)
    if short:
        tensor.copy_(wide)


def _truncated(tensor: Tensor, law: Any, generator: Generator) -> None:
    parent = law.parent_std
    torch_init.trunc_normal_(tensor, 0.0, parent, law.low * parent, law.high * parent, generator)


SAMPLERS: Mapping[type[Law], Callable[[Tensor, Any, Generator], object]] = MappingProxyType(
    {
        laws.Uniform: lambda tensor, law, generator: torch_init.uniform_(tensor, law.low, law.high, generator),
        laws.Normal: lambda tensor, law, generator: torch_init.normal_(tensor, law.mean, law.std, generator),
        laws.TruncatedNormal: _truncated,
        laws.Constant: lambda tensor, law, generator: torch_init.constant_(tensor, law.value),
        laws.Orthogonal: _orthogonal,
        laws.Dirac: lambda tensor, law, generator: torch_init.dirac_(tensor, law.groups),
        laws.Identity: lambda tensor, law, generator: torch_init.eye_(tensor).mul_(law.gain),
        laws.Sparse: lambda tensor, law, generator: torch_init.sparse_(tensor, law.sparsity, law.std, generator),
    }
)
