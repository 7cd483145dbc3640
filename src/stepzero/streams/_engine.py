"""Who computes: NumPy always, numba where it is installed and the array is large; both give the same bits."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from os import cpu_count
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stepzero.errors import LawError

from . import _values
from ._draws import ALL, Draw
from ._key import Key
from ._words import U64, words

EngineName = Literal["auto", "numba", "numpy"]
WORTH_COMPILING = 2**25  # elements; below, loading compiled kernels costs more than they save


@dataclass(frozen=True, slots=True)
class Engine:
    """One implementation of `stepzero-v1`.

    Args:
        name: What to call it.
        chunk: Elements handled at a time: scratch memory is a small multiple of it.
        draw: (out, draw, key, starts, width, streamed) → nothing; writes runs into the flat array `out`, of float32 or of the bits
            of bfloat16; past the caches where `streamed`, if it can.
        bfloat16: (values, out) → nothing; rounds float32 to the upper 16 bits, ties to even.
        reflect: (rows, vectors, scales) → nothing; multiplies rows by Householder reflections, in place.
    """

    name: EngineName
    chunk: int
    draw: Callable[[NDArray[Any], Draw, Key, U64, int, bool], None]
    bfloat16: Callable[[NDArray[np.float32], NDArray[np.uint16]], None]
    reflect: Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], int], None]


def engine(name: EngineName = "auto", size: int = 0) -> Engine:
    """Return the engine of that name; `auto` takes numba if it is loaded already, or installed and worth loading.

    Args:
        name: `numpy`, `numba` or `auto`.
        size: Elements to come, in this array and those after it.

    Raises:
        LawError: if the name is unknown, or numba is asked for and missing.
    """
    if name not in ("auto", "numba", "numpy"):
        raise LawError(f"engine={name!r} is unknown. Choose auto, numba or numpy.")
    loaded = f"{__package__}._numba" in sys.modules
    if name == "numpy" or (name == "auto" and not loaded and (size < WORTH_COMPILING or not numba_available())):
        return NUMPY
    if not numba_available():
        raise LawError("engine='numba' needs numba. Install it with: pip install 'stepzero[fast]'")
    from ._numba import NUMBA

    return NUMBA


@lru_cache(maxsize=1)
def numba_available() -> bool:
    """Say whether numba is installed, without importing it, on a machine whose pairs of words its kernels can split."""
    return sys.byteorder == "little" and importlib.util.find_spec("numba") is not None


def spread(work: Callable[[Any], None], jobs: list[Any], threads: int | None) -> None:
    """Do each job, on so many threads (all cores for None); kernels and NumPy release the GIL."""
    workers = min(len(jobs), threads or cpu_count() or 1)
    if workers <= 1:
        for job in jobs:
            work(job)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="stepzero") as pool:
        try:
            for done in [pool.submit(work, job) for job in jobs]:
                done.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _draw(out: NDArray[Any], draw: Draw, key: Key, starts: U64, width: int, streamed: bool) -> None:
    level = words(key, starts, width).ravel()
    if draw.span != ALL:
        level = _values.levels(level, draw.low, draw.span)
    value = (_values.uniform if draw.kind == "uniform" else _values.normal)(level, draw.scale)
    if draw.span != ALL:
        value = np.clip(value, *draw.clamp)
    if draw.shift:
        value = (value.astype(np.float64) + draw.shift).astype(np.float32)
    if out.dtype == np.float32:
        out[...] = value
    else:
        _bfloat16(value, out)


def _bfloat16(values: NDArray[np.float32], out: NDArray[np.uint16]) -> None:
    bits = values.view(np.uint32)
    out[...] = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)


def _reflect(rows: NDArray[np.float64], vectors: NDArray[np.float64], scales: NDArray[np.float64], first: int) -> None:
    for k, (vector, scale) in enumerate(zip(vectors, scales, strict=True), start=first):
        tail, v = rows[:, k:], vector[k:]
        along = fold(tail * v) * scale
        tail -= along[:, None] * v


def fold(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums over the last axis by adding the upper half to the lower, again and again: one order on every machine."""
    length = terms.shape[-1]
    half = 1 << max(length - 1, 0).bit_length() >> 1
    while half:
        terms[..., : length - half] += terms[..., half:length]
        length, half = half, half >> 1
    return terms[..., 0]


NUMPY = Engine("numpy", 2**16, _draw, _bfloat16, _reflect)
