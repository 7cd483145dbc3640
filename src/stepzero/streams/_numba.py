"""The same bits by compiled kernels: 64-bit lanes, scratch for 256 blocks, one loop per phase, so that each of them vectorises."""

# The compiler infers the types of kernels from their first call; annotations would say nothing to it.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from ._draws import ALL, Draw
from ._engine import Engine
from ._key import Key
from ._values import table
from ._words import MULTIPLIERS, ROUNDS, U64, WEYL

_Function = TypeVar("_Function", bound=Callable[..., Any])
BLOCKS = 256  # of four words: all scratch stays in the first-level cache

_TABLE = table()  # a global array is a constant to the compiler: gathers without alias checks
_M0, _M1 = map(np.uint64, MULTIPLIERS)
_W0, _W1 = map(np.uint64, WEYL)
_LOW, _HALF, _TWO, _THREE, _ALL = map(np.uint64, (2**32 - 1, 32, 2, 3, ALL))


def _kernel(function: _Function) -> _Function:
    try:
        compiled: _Function = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep compiled code in: compile again in each process
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled


@intrinsic
def _wide_vectors(typing_context):
    """Ask for 512-bit vectors in the function that calls this; compilers avoid them by default, and lose a third here."""

    def mark(context, builder, signature, arguments):
        set.add(
            builder.function.attributes, '"prefer-vector-width"="512"'
        )  # the mapping's own `add` knows no such name
        return context.get_dummy_value()

    return types.void(), mark


@_kernel
def _philox(blocks, count, k0, k1, c2, c3, pairs):
    """Write (w0, w1) of each block into the first row of `pairs`, (w2, w3) into the second."""
    _wide_vectors()
    for i in range(count):
        x0, x1, x2, x3 = blocks[i], blocks[i] >> _HALF, c2, c3
        a, e = k0, k1
        for _ in range(ROUNDS):
            p, q = (
                (x0 & _LOW) * _M0,
                (x2 & _LOW) * _M1,
            )  # upper halves are dirt: one instruction that does not read them
            x0, x1, x2, x3 = (q >> _HALF) ^ x1 ^ a, q, (p >> _HALF) ^ x3 ^ e, p
            a, e = (a + _W0) & _LOW, (e + _W1) & _LOW
        pairs[0, i] = (x0 & _LOW) | (x1 << _HALF)
        pairs[1, i] = (x2 & _LOW) | (x3 << _HALF)


@_kernel
def _interleave(pairs, count, words):
    _wide_vectors()
    first, second = pairs[0], pairs[1]
    for i in range(count):
        words[2 * i] = first[i]
        words[2 * i + 1] = second[i]


@_kernel
def _uniform(words, count, values, scale):
    _wide_vectors()
    for i in range(count):
        odd = np.int32(words[i] >> np.uint32(8)) * np.int32(2) + np.int32(1 - 2**24)
        values[i] = np.float32(np.int32(odd)) * scale  # sums of int32 are int64 to numba


@_kernel
def _levels(words, count, low, span):
    _wide_vectors()
    for i in range(count):
        words[i] = np.uint32(low + ((np.uint64(words[i]) * (span & _LOW)) >> _HALF))


@_kernel
def _mirrored(words, count, values):
    _wide_vectors()
    for i in range(count):
        level = words[i]
        lower = level ^ np.uint32(np.int32(level) >> np.int32(31))  # 2^32 - 1 - level above the middle
        values[i] = np.float32(np.int32(lower | np.uint32(1)))


@_kernel
def _quadratic(bits, count, out):
    _wide_vectors()
    for i in range(count):
        u = np.uint64(bits[i] - np.uint32(127 << 23))
        cell, t = _TABLE[u >> np.uint64(18)], u & np.uint64(2**18 - 1)
        c1, c2 = (cell >> np.uint64(13)) & np.uint64(2**21 - 1), cell & np.uint64(2**13 - 1)
        slope = c1 - ((c2 * t) >> np.uint64(17))
        out[i] = np.uint32((cell >> np.uint64(34)) - ((slope * t) >> np.uint64(18)))


@_kernel
def _signed(words, magnitudes, count, values, scale):
    _wide_vectors()
    for i in range(count):
        sign = np.int32(~words[i]) >> np.int32(31)  # -1 below the middle
        values[i] = np.float32(np.int32((np.int32(magnitudes[i]) ^ sign) - sign)) * scale


@_kernel
def _clamp(values, count, low, high):
    _wide_vectors()
    for i in range(count):
        value = values[i] if values[i] > low else low
        values[i] = value if value < high else high


@_kernel
def _shift(values, count, shift):
    _wide_vectors()
    for i in range(count):
        values[i] = np.float32(np.float64(values[i]) + shift)


@_kernel
def _take(start, at, width, room):
    """Return first block, number of blocks, and the place in the row after them (its width when the row is done)."""
    first = (start + np.uint64(at)) >> _TWO
    count = np.int64(((start + np.uint64(width - 1)) >> _TWO) - first) + 1
    if count > room:
        return first, room, np.int64(((first + np.uint64(room)) << _TWO) - start)
    return first, count, width


@_kernel
def _gather(starts, row, at, width, blocks):
    """Collect the next blocks to compute, of as many rows as fit."""
    count = 0
    while row < starts.size and count < BLOCKS:
        first, taken, at = _take(starts[row], at, width, BLOCKS - count)
        room = blocks[count : count + taken]
        for j in range(taken):
            room[j] = first + np.uint64(j)
        count += taken
        if at == width:
            row, at = row + 1, 0
    return count


@_kernel
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


@_kernel
def _transform(words, count, draw, values, scratch):
    """Turn words into values: what the NumPy reference does, phase by phase."""
    normal, scale, low, span, clamp_low, clamp_high, shift = draw
    if span != _ALL:
        _levels(words, count, low, span)
    if normal:
        _mirrored(words, count, values)
        _quadratic(values.view(np.uint32), count, scratch)
        _signed(words, scratch, count, values, scale)
    else:
        _uniform(words, count, values, scale)
    if span != _ALL:
        _clamp(values, count, clamp_low, clamp_high)
    if shift != 0.0:
        _shift(values, count, shift)


@_kernel
def _fill(out, starts, width, key, draw):
    blocks, pairs = np.empty(BLOCKS, np.uint64), np.empty((2, BLOCKS), np.uint64)
    words, scratch = np.empty(4 * BLOCKS, np.uint32), np.empty(4 * BLOCKS, np.uint32)
    values = np.empty(4 * BLOCKS, np.float32)
    row, at, written = 0, 0, 0
    while written < out.size:
        count = _gather(starts, row, at, width, blocks)
        _philox(blocks, count, key[0], key[1], key[2], key[3], pairs)
        _interleave(pairs, count, words.view(np.uint64))
        _transform(words, 4 * count, draw, values, scratch)
        row, at, written = _scatter(starts, row, at, width, count, values, out, written)


@_kernel
def _bfloat16(values, out):
    bits = values.view(np.uint32)
    for i in range(bits.size):
        out[i] = np.uint16((bits[i] + np.uint32(0x7FFF) + ((bits[i] >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@_kernel
def _reflect(rows, vectors, scales, first, terms):
    for r in range(rows.shape[0]):
        row = rows[r]
        for k in range(vectors.shape[0]):
            start, vector = first + k, vectors[k]
            length = row.size - start
            for j in range(length):
                terms[j] = row[start + j] * vector[start + j]
            half = 1
            while 2 * half < length:
                half *= 2
            while length > 1:
                for j in range(length - half):
                    terms[j] += terms[half + j]
                length, half = half, half // 2
            along = terms[0] * scales[k]
            for j in range(start, row.size):
                row[j] -= along * vector[j]


def _draw(out: NDArray[np.float32], draw: Draw, key: Key, starts: U64, width: int) -> None:
    if out.size:
        levels = (np.uint64(draw.low), np.uint64(draw.span))
        how = (draw.kind == "normal", draw.scale, *levels, *draw.clamp, draw.shift)
        _fill(out, starts, width, tuple(map(np.uint64, key)), how)


def _householder(
    rows: NDArray[np.float64], vectors: NDArray[np.float64], scales: NDArray[np.float64], first: int
) -> None:
    _reflect(rows, vectors, scales, first, np.empty(rows.shape[1]))


NUMBA = Engine("numba", 2**19, _draw, _bfloat16, _householder)
