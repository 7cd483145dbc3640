"""Element index → 32-bit word, by ten rounds of Philox4x32: the only random thing in the project (NumPy reference)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._key import Key

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio and sqrt(3) - 1, in 32 bits
ROUNDS = 10
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox4x32(x0: U64, x1: U64, x2: U64, x3: U64, k0: int, k1: int) -> tuple[U64, U64, U64, U64]:
    """Return the four output words for counters (x0, x1, x2, x3), each held in 64 bits.

    Salmon, Moraes, Dror & Shaw 2011, Parallel random numbers: as easy as 1, 2, 3.
    """
    for turn in range(ROUNDS):
        p, q = x0 * np.uint64(MULTIPLIERS[0]), x2 * np.uint64(MULTIPLIERS[1])
        a, e = (np.uint64((start + turn * step) % 2**32) for start, step in zip((k0, k1), WEYL, strict=True))
        x0, x1, x2, x3 = (q >> _HALF) ^ x1 ^ a, q & _LOW, (p >> _HALF) ^ x3 ^ e, p & _LOW
    return x0, x1, x2, x3


def block_words(key: Key, blocks: U64) -> U32:
    """Return the four words of each block of four elements: shape (blocks, 4)."""
    c2, c3 = (np.full_like(blocks, word) for word in (key.c2, key.c3))
    return np.stack(philox4x32(blocks & _LOW, blocks >> _HALF, c2, c3, key.k0, key.k1), axis=1).astype(np.uint32)


def words(key: Key, starts: U64, width: int) -> U32:
    """Return the words of elements start … start + width - 1 for each start: shape (starts, width).

    Args:
        key: The stream.
        starts: First element of each run, in C order over the logical tensor.
        width: Elements in a run.
    """
    first = starts >> np.uint64(2)
    skip = (starts & np.uint64(3)).astype(np.intp)
    count = (int(skip.max(initial=0)) + width + 3) // 4  # blocks that cover the worst-placed run
    blocks: U64 = np.add.outer(first, np.arange(count, dtype=np.uint64))
    covered = block_words(key, blocks.ravel()).reshape(-1, 4 * count)
    if not skip.any():
        return covered[:, :width]
    return np.take_along_axis(covered, skip[:, None] + np.arange(width), axis=1)
