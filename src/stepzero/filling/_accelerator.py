"""The same bits on an accelerator: `stepzero-v1` in torch's 64-bit integers, whose products wrap like unsigned ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from stepzero import streams
from stepzero.laws import Law
from stepzero.streams import Draw, Key, Region

CHUNK = 2**20  # elements at a time: scratch memory is some hundred bytes for each
LOW = 2**32 - 1
WITHOUT_FLOAT64 = frozenset({"mps"})  # devices that cannot add a mean as the specification says


def fill_tensor(tensor: torch.Tensor, law: Law, seed: int, name: str, region: Region) -> None:
    """Write the values of a law into a tensor of any device, at the elements that `region` says it holds.

    Laws drawn element by element are made on the device, by integer operations, one conversion and one product; all others, which
    are float arithmetic in a fixed order, are made on the CPU and copied.
    """
    simple = streams.plain(law)
    if type(simple) not in streams.DRAWS or (simple.mean and tensor.device.type in WITHOUT_FLOAT64):
        _copy(tensor, law, seed, name, region)
        return
    for part, purpose in _parts(tensor):
        draw = streams.draw_of(simple, math.sqrt(0.5) if purpose else 1.0)
        draw = replace(draw, shift=0.0) if purpose == "im" else draw
        stream = streams.key(seed, name, purpose)
        for cut in region.pieces(CHUNK):
            at: Any = (*cut, ...)
            view = part[at]
            view.copy_(_values(draw, stream, region[cut], tensor.device).reshape(view.shape))


def _parts(tensor: torch.Tensor) -> Iterator[tuple[torch.Tensor, streams.Purpose | None]]:
    bare = tensor.detach()
    if bare.is_complex():
        pair = torch.view_as_real(bare)
        yield pair[..., 0], "re"
        yield pair[..., 1], "im"
    else:
        yield bare, None


def _copy(tensor: torch.Tensor, law: Law, seed: int, name: str, region: Region) -> None:
    kind = str(tensor.dtype).removeprefix("torch.")
    values = np.empty(region.shape, streams.storage(kind).numpy)
    streams.fill(values, law, seed, name, region, dtype=kind, threads=None)
    made = (
        torch.from_numpy(values.view(np.int16)).view(torch.bfloat16) if kind == "bfloat16" else torch.from_numpy(values)
    )
    tensor.detach().copy_(made)


def _values(draw: Draw, key: Key, region: Region, device: torch.device) -> torch.Tensor:
    starts, width = region.runs()
    word = _words(key, torch.from_numpy(starts.view(np.int64)).to(device), width)
    if draw.span != 2**32:
        word = draw.low + (((word * draw.span) >> 32) & LOW)
    value = _uniform(word) if draw.kind == "uniform" else _normal(word, _table(device))
    value = value * float(draw.scale)  # exact in float32: the scale is one
    if draw.span != 2**32:
        value = value.clamp(float(draw.clamp[0]), float(draw.clamp[1]))
    return (value.double() + draw.shift).float() if draw.shift else value


def _words(key: Key, starts: torch.Tensor, width: int) -> torch.Tensor:
    """Return the words of elements start … start + width - 1 for each start."""
    first, skip = (starts >> 2) & (2**62 - 1), starts & 3
    count = (3 + width + 3) // 4  # blocks that cover a run wherever it starts
    blocks = first[:, None] + torch.arange(count, device=starts.device)
    covered = torch.stack(_philox(key, blocks), dim=-1).flatten(1)
    return covered.gather(1, skip[:, None] + torch.arange(width, device=starts.device))


def _philox(key: Key, blocks: torch.Tensor) -> tuple[torch.Tensor, ...]:
    x0, x1 = blocks & LOW, (blocks >> 32) & LOW
    x2, x3 = torch.full_like(x0, key.c2), torch.full_like(x0, key.c3)
    for turn in range(streams.ROUNDS):
        p, q = x0 * streams.MULTIPLIERS[0], x2 * streams.MULTIPLIERS[1]
        a, e = ((start + turn * step) & LOW for start, step in zip((key.k0, key.k1), streams.WEYL, strict=True))
        x0, x1, x2, x3 = ((q >> 32) & LOW) ^ x1 ^ a, q & LOW, ((p >> 32) & LOW) ^ x3 ^ e, p & LOW
    return x0, x1, x2, x3


def _uniform(word: torch.Tensor) -> torch.Tensor:
    return (2 * (word >> 8) + 1 - 2**24).int().float()


def _normal(level: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    below = level < 2**31
    mirrored = torch.where(below, level, LOW - level) | 1
    u = (mirrored.int().float().view(torch.int32) - (127 << 23)).long()
    cell, t = table[u >> 18], u & (2**18 - 1)
    c1, c2 = (cell >> 13) & (2**21 - 1), cell & (2**13 - 1)
    z = (cell >> 34) - (((c1 - ((c2 * t) >> 17)) * t) >> 18)
    return torch.where(below, -z, z).int().float()


@lru_cache(maxsize=16)
def _table(device: torch.device) -> torch.Tensor:
    return torch.from_numpy(streams.table().astype(np.int64)).to(device)
