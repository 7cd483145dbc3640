"""Orthogonal matrices as a product of Householder reflections, any rows of which are made alone and with the same bits."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepzero.laws import DeltaOrthogonal, Orthogonal

from ._draws import Draw
from ._engine import Engine, fold, spread
from ._key import key
from ._region import Region

F64 = NDArray[np.float64]
_ROWS = 32  # made at a time


def orthogonal(law: Orthogonal, seed: int, name: str, region: Region, engine: Engine, threads: int | None) -> F64:
    r"""Return a region of gain·Q for a tensor [out, in, *kernel], taken as the matrix [out, in·kernel].

    Q is uniform over the (semi-)orthogonal matrices (Stewart 1980, The efficient generation of random orthogonal matrices):
    with m the longer side and n the shorter, reflector k is made of normals k·m+k … (k+1)·m-1 of the stream name\0orth,
    and row i is eᵢᵀ·H₁…Hₙ·D. Block b of `law.blocks` takes the reflectors b·n … (b+1)·n-1.
    """
    rows, columns = _matrix_axes(region)
    height = region.full_shape[0] // law.blocks
    out = np.empty((len(rows), len(columns)))
    for block in np.unique(rows // height):
        mine = rows // height == block
        shape = (height, math.prod(region.full_shape[1:]))
        out[mine] = _elements(shape, rows[mine] % height, columns, int(block), seed, name, engine, threads)
    return (out * law.gain).reshape(region.shape)


def delta_orthogonal(
    law: DeltaOrthogonal, seed: int, name: str, region: Region, engine: Engine, threads: int | None
) -> F64:
    """Return a region of gain·Q on the centre tap of a kernel, zero elsewhere (Xiao et al. 2018, Algorithm 1)."""
    out: F64 = np.zeros(region.shape)
    taps = [
        np.flatnonzero(np.asarray(held) == size // 2)
        for held, size in zip(region.axes[2:], region.full_shape[2:], strict=True)
    ]
    if all(len(tap) for tap in taps):
        matrix = Region(region.full_shape[:2], region.axes[:2])
        centre = orthogonal(Orthogonal(law.gain), seed, name, matrix, engine, threads)
        at: tuple[Any, ...] = (..., *(int(tap[0]) for tap in taps))
        out[at] = centre
    return out


def _matrix_axes(region: Region) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and the flattened columns that the region holds."""
    flat = np.zeros(1, np.int64)
    for held, size in zip(region.axes[1:], region.full_shape[1:], strict=True):
        flat = (flat[:, None] * size + np.asarray(held, np.int64)).ravel()
    return np.asarray(region.axes[0], np.int64), flat


def _elements(
    shape: tuple[int, int], rows: NDArray[np.int64], columns: NDArray[np.int64], block: int,
    seed: int, name: str, engine: Engine, threads: int | None,
) -> F64:  # fmt: skip
    """Return Q[rows, columns]; a wide matrix is the transpose of a tall one."""
    if shape[0] < shape[1]:
        return _elements((shape[1], shape[0]), columns, rows, block, seed, name, engine, threads).T
    if not (len(rows) and len(columns)):
        return np.empty((len(rows), len(columns)))
    needed = int(columns.max()) + 1  # reflector k leaves the columns before it alone
    vectors, scales, signs = reflectors(shape, needed, block, seed, name, engine)
    out = np.empty((len(rows), len(columns)))

    def make(start: int) -> None:
        some = slice(start, start + _ROWS)
        work = np.zeros((len(rows[some]), shape[0]))
        work[np.arange(len(work)), rows[some]] = 1.0
        engine.reflect(work, vectors, scales, 0)
        out[some] = (work[:, :needed] * signs)[:, columns]

    spread(make, list(range(0, len(rows), _ROWS)), threads)
    return out


def reflectors(
    shape: tuple[int, int], count: int, block: int, seed: int, name: str, engine: Engine
) -> tuple[F64, F64, F64]:
    """Return the first `count` vectors v, their scales 2/vᵀv, and the signs D that make Q uniform.

    v = x + sign(x₁)·‖x‖·e₁, so that H·x = -sign(x₁)·‖x‖·e₁ without cancellation.
    """
    m, n = shape
    vectors, scales, signs = np.zeros((count, m)), np.empty(count), np.empty(count)
    draw, stream = Draw("normal", np.float32(2.0**-26)), partial(key, seed, name, "orth")
    normals = np.empty(m, np.float32)
    for k in range(count):
        start = (block * n + k) * m + k
        engine.draw(normals[k:], draw, stream(), np.array([start], np.uint64), m - k, False)
        x = vectors[k, k:]
        x[:] = normals[k:]
        signs[k] = -1.0 if x[0] >= 0 else 1.0
        x[0] -= signs[k] * np.sqrt(fold(x * x))
        scales[k] = 2.0 / fold(x * x)
    return vectors, scales, signs
