"""The same bits by compiled kernels: batches of 1024 blocks, one loop per phase, so that each of them fills the widest vectors."""

# The compiler infers the types of kernels from their first call; annotations would say nothing to it.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._draws import ALL, Draw
from ._engine import Engine
from ._householder import householder
from ._key import Key
from ._values import normal, table
from ._vectors import VECTOR, fence, kernel, weave, wide_vectors
from ._words import MULTIPLIERS, ROUNDS, U64, WEYL

BLOCKS = 1024  # of four words make a batch: all scratch, 40 KB, stays in the first-level cache
BATCH = 4 * BLOCKS

_TABLE = table()  # a global array is a constant to the compiler: gathers without alias checks
_M0, _M1 = map(np.uint64, MULTIPLIERS)
_W0, _W1 = map(np.uint64, WEYL)
_LOW, _HALF, _TWO, _THREE, _ALL = map(np.uint64, (2**32 - 1, 32, 2, 3, ALL))
_OPEN = (np.float32(-np.inf), np.float32(np.inf))
_BOTH = 2**32 + 1  # times this, a number stands in both halves of 64 bits


@kernel
def _philox(blocks, high, k0, k1, c2, c3, pairs):
    """Write (w0, w1) of each block into the first half of `pairs`, (w2, w3) into the second.

    Two blocks in turns, x and y: one chain of ten dependent products would leave half of the multipliers idle. Upper halves are
    dirt, except in the last round: there they are the other word, and a turn by 32 bits puts both in their place.
    """
    wide_vectors()
    half = BLOCKS // 2
    for i in range(half):
        x0, x1, x2, x3 = blocks[i], high, c2, c3
        y0, y1, y2, y3 = blocks[half + i], high, c2, c3
        a, e = k0, k1
        for _ in range(ROUNDS - 1):
            p, q = (x0 & _LOW) * _M0, (x2 & _LOW) * _M1
            r, s = (y0 & _LOW) * _M0, (y2 & _LOW) * _M1
            x0, x1, x2, x3 = (q >> _HALF) ^ x1 ^ a, q, (p >> _HALF) ^ x3 ^ e, p
            y0, y1, y2, y3 = (s >> _HALF) ^ y1 ^ a, s, (r >> _HALF) ^ y3 ^ e, r
            a, e = (a + _W0) & _LOW, (e + _W1) & _LOW
        p, q = (x0 & _LOW) * _M0, (x2 & _LOW) * _M1
        r, s = (y0 & _LOW) * _M0, (y2 & _LOW) * _M1
        pairs[i] = (q >> _HALF | q << _HALF) ^ (x1 & _LOW ^ a)
        pairs[BLOCKS + i] = (p >> _HALF | p << _HALF) ^ (x3 & _LOW ^ e)
        pairs[half + i] = (s >> _HALF | s << _HALF) ^ (y1 & _LOW ^ a)
        pairs[BLOCKS + half + i] = (r >> _HALF | r << _HALF) ^ (y3 & _LOW ^ e)


@kernel
def _uniform(words, values, scale):
    wide_vectors()
    for i in range(BATCH):
        odd = (np.int32(words[i] ^ np.uint32(2**31)) >> np.int32(7)) | np.int32(1)  # 2·(w >> 8) + 1 - 2^24
        values[i] = np.float32(np.int32(odd)) * scale  # what is made of two int32 is int64 to numba


@kernel
def _levels(pairs, low, span):
    wide_vectors()
    for i in range(2 * BLOCKS):
        near, far = (pairs[i] & _LOW) * (span & _LOW), (pairs[i] >> _HALF) * (span & _LOW)
        pairs[i] = (near >> _HALF | far & ~_LOW) + low * np.uint64(_BOTH)


@kernel
def _mirrored(words, values):
    wide_vectors()
    for i in range(BATCH):
        level = words[i]
        lower = level ^ np.uint32(np.int32(level) >> np.int32(31))  # 2^32 - 1 - level above the middle
        values[i] = np.float32(np.int32(lower | np.uint32(1)))


@kernel
def _piece(cell, t):
    slope = (cell >> np.uint64(13) & np.uint64(2**21 - 1)) - ((cell & np.uint64(2**13 - 1)) * t >> np.uint64(17))
    return (cell >> np.uint64(34)) - ((slope & _LOW) * t >> np.uint64(18))


@kernel
def _quadratic(bits):
    """Turn the bits of two floats into two integers of 32 bits each."""
    wide_vectors()
    for i in range(2 * BLOCKS):
        u = bits[i] - np.uint64((127 << 23) * _BOTH)
        t = u & np.uint64((2**18 - 1) * _BOTH)
        near = _piece(_TABLE[(u & _LOW) >> np.uint64(18)], t & _LOW)
        far = _piece(_TABLE[u >> np.uint64(50)], t >> _HALF)
        bits[i] = near | far << _HALF


@kernel
def _signed(words, values, scale):
    wide_vectors()
    magnitudes = values.view(np.int32)
    for i in range(BATCH):
        sign = np.int32(~words[i]) >> np.int32(31)  # -1 below the middle
        values[i] = np.float32(np.int32((magnitudes[i] ^ sign) - sign)) * scale


@kernel
def _clamp(values, low, high):
    wide_vectors()
    for i in range(BATCH):
        value = values[i] if values[i] > low else low
        values[i] = value if value < high else high


@kernel
def _shift(values, shift):
    wide_vectors()
    for i in range(BATCH):
        values[i] = np.float32(np.float64(values[i]) + shift)


@kernel
def _bfloat16(values, out):
    wide_vectors()
    bits = values.view(np.uint32)
    for i in range(bits.size):
        out[i] = np.uint16((bits[i] + np.uint32(0x7FFF) + ((bits[i] >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@kernel
def _transform(pairs, draw, values):
    """Turn words into values, in the order of `pairs`: what the NumPy reference does, phase by phase."""
    normal, scale, low, span, clamp_low, clamp_high, shift = draw
    words = pairs.view(np.uint32)
    if span != _ALL:
        _levels(pairs, low, span)
    if normal:
        _mirrored(words, values)
        _quadratic(values.view(np.uint64))
        _signed(words, values, scale)
    else:
        _uniform(words, values, scale)
    if clamp_low > -np.inf:
        _clamp(values, clamp_low, clamp_high)
    if shift != 0.0:
        _shift(values, shift)


@kernel
def _take(start, at, width, room):
    """Return first block, number of blocks, and the place in the row after them (its width when the row is done)."""
    first = (start + np.uint64(at)) >> _TWO
    room = min(room, np.int64(_ALL - (first & _LOW)))  # blocks of a batch share the upper half of their number
    count = np.int64(((start + np.uint64(width - 1)) >> _TWO) - first) + 1
    if count > room:
        return first, room, np.int64(((first + np.uint64(room)) << _TWO) - start)
    return first, count, width


@kernel
def _count_up(first, blocks):
    wide_vectors()
    for j in range(BLOCKS):
        blocks[j] = first + np.uint64(j)


@kernel
def _gather(starts, row, at, width, room, blocks):
    """Collect the next blocks to compute, of as many rows as fit; return how many, and the upper half of their numbers."""
    count, high = 0, (starts[row] + np.uint64(at)) >> np.uint64(34)
    while row < starts.size and count < room:
        first, taken, at = _take(starts[row], at, width, room - count)
        if first >> _HALF != high:
            break
        for j in range(taken):
            blocks[count + j] = first + np.uint64(j)
        count += taken
        if at == width:
            row, at = row + 1, 0
    return count, high


@kernel
def _scatter(starts, row, at, width, count, values, out, written):
    """Write the wanted elements of those blocks; return the place after them."""
    done = 0
    while done < count:
        _, taken, after = _take(starts[row], at, width, count - done)
        first = 4 * done + np.int64((starts[row] + np.uint64(at)) & _THREE)
        source, target = values[first : first + after - at], out[written : written + after - at]
        for j in range(after - at):
            target[j] = source[j]
        written += after - at
        done += taken
        row, at = (row + 1, 0) if after == width else (row, after)
    return row, at, written


@kernel
def _weave(cells, place, streamed):
    """Store a batch in the order of its elements."""
    wide_vectors()
    first, half = cells.ctypes.data, cells.itemsize * BATCH // 2
    for at in range(0, half, VECTOR):
        weave(cells, first + at, first + half + at, place + 2 * at, streamed)


@kernel
def _compute(blocks, high, key, draw, pairs, values, cells):
    """Fill `cells` with the values of a batch, in the order of `pairs`; they are `values` itself where the format is float32."""
    _philox(blocks, high, key[0], key[1], key[2], key[3], pairs)
    _transform(pairs, draw, values)
    if cells.itemsize == 2:
        _bfloat16(values, cells)


@kernel
def _room(start, left, place, size, streamed):
    """Return how many blocks to take next, whether they go straight to their place, and whether past the caches."""
    first = start >> _TWO
    if left < BATCH or start & _THREE or (first & _LOW) + np.uint64(BLOCKS) > _ALL:
        return BLOCKS, False, streamed
    lead = -place % VECTOR
    if streamed and lead and lead % (4 * size) == 0:
        return lead // (4 * size), False, streamed
    return BLOCKS, True, streamed and lead == 0


@kernel
def _fill(out, starts, width, key, draw, values, cells, streamed):
    blocks, pairs, line = np.empty(BLOCKS, np.uint64), np.empty(2 * BLOCKS, np.uint64), np.empty_like(cells)
    row, at, written = 0, 0, 0
    while written < out.size:
        place, start = out.ctypes.data + out.itemsize * written, starts[row] + np.uint64(at)
        room, direct, past = _room(start, width - at, place, out.itemsize, streamed)
        if direct:
            _count_up(start >> _TWO, blocks)
            _compute(blocks, start >> np.uint64(34), key, draw, pairs, values, cells)
            _weave(cells, place, past)
            written, at = written + BATCH, at + BATCH
            row, at = (row + 1, 0) if at == width else (row, at)
        else:
            count, high = _gather(starts, row, at, width, room, blocks)
            _compute(blocks, high, key, draw, pairs, values, cells)
            _weave(cells, line.ctypes.data, False)
            row, at, written = _scatter(starts, row, at, width, count, line, out, written)
    if streamed:
        fence()


def _draw(out: NDArray[Any], draw: Draw, key: Key, starts: U64, width: int, streamed: bool) -> None:
    if not out.size:
        return
    levels = (np.uint64(draw.low), np.uint64(draw.span))
    clamp = draw.clamp if _cut_by_clamp(draw) else _OPEN
    how = (draw.kind == "normal", draw.scale, *levels, *clamp, draw.shift)
    values = np.empty(BATCH, np.float32)
    cells = values if out.dtype == np.float32 else np.empty(BATCH, out.dtype)
    _fill(out, starts, width, tuple(map(np.uint64, key)), how, values, cells, streamed)


@lru_cache(maxsize=256)
def _cut_by_clamp(draw: Draw) -> bool:
    """Say whether the clamp changes a value: quantiles never decrease, so the first and the last level tell."""
    if draw.span == ALL:
        return False
    first, last = normal(np.array([draw.low, draw.low + draw.span - 1], np.uint32), draw.scale)
    return bool(first < draw.clamp[0] or last > draw.clamp[1])


NUMBA = Engine("numba", 2**19, _draw, _bfloat16, householder)
