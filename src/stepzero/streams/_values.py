"""32-bit word → value: uniform, normal and truncated normal by integers, one conversion and one rounded product."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ._words import U32

F32 = NDArray[np.float32]

TABLE_SHA256 = "bc9658edd991b9a48a93494d4cbf6613823e807655b83eb82237f7e2962e1d09"


@lru_cache(maxsize=1)
def table() -> NDArray[np.uint64]:
    """Return the packed cells of the normal quantile: (C0, C1, C2) in 30, 21 and 13 bits."""
    cells: NDArray[np.uint64] = np.load(Path(__file__).with_name("normal_quantile_table.npy")).astype(np.uint64)
    if hashlib.sha256(cells.astype("<u8").tobytes()).hexdigest() != TABLE_SHA256:
        raise RuntimeError("stepzero: the quantile table of the package is damaged. Install the package again.")
    cells.flags.writeable = False
    return cells


def uniform(word: U32, scale: np.float32) -> F32:
    """Return values on (-β, β), with scale = RN32(β·2^-24); never ±β, never 0."""
    odd = (word >> np.uint32(8)).astype(np.int32) * np.int32(2) + np.int32(1 - 2**24)
    return odd.astype(np.float32) * scale


def normal(quantile: U32, scale: np.float32) -> F32:
    """Return the normal quantile of each 32-bit level, with scale = RN32(σ·2^-26).

    In the octave and eighth that the float32 of the level falls into, a quadratic with integer coefficients: 2^-26 steps.
    """
    below = quantile < np.uint32(2**31)
    mirrored = np.where(below, quantile, ~quantile) | np.uint32(1)
    bits = (mirrored.astype(np.float32).view(np.uint32) - np.uint32(127 << 23)).astype(np.uint64)
    cell, t = table()[bits >> np.uint64(18)], (bits & np.uint64(2**18 - 1)).astype(np.int64)
    c0, c1, c2 = (
        (cell >> np.uint64(shift)).astype(np.int64) & mask
        for shift, mask in ((34, -1), (13, 2**21 - 1), (0, 2**13 - 1))
    )
    z = c0 - (((c1 - ((c2 * t) >> 17)) * t) >> 18)
    value: F32 = np.multiply(np.where(below, -z, z).astype(np.int32), scale, dtype=np.float32)
    return value


def levels(word: U32, low: int, span: int) -> U32:
    """Return quantile levels in [low, low + span), for a normal that is cut there."""
    return (np.uint64(low) + ((word * np.uint64(span)) >> np.uint64(32))).astype(np.uint32)
