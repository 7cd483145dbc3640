"""Values that follow a pattern: dirac, identity, normals with the same share of zeros in every column, and directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stepzero.laws import Dirac, Identity, Normal, Sparse, Sphere

from ._draws import draw_of
from ._engine import Engine, fold
from ._key import key
from ._region import Region
from ._words import words

F64 = NDArray[np.float64]


def dirac(law: Dirac, seed: int, name: str, region: Region, engine: Engine, threads: int | None) -> F64:
    """Return a region of the convolution that hands on its input: a one on the centre tap from channel i to channel i."""
    per_group = region.full_shape[0] // law.groups
    outputs, inputs, *taps = np.ix_(*(np.asarray(held, np.int64) for held in region.axes))
    one = outputs % per_group == inputs
    for tap, size in zip(taps, region.full_shape[2:], strict=True):
        one = one & (tap == size // 2)
    return np.asarray(one, np.float64)


def identity(law: Identity, seed: int, name: str, region: Region, engine: Engine, threads: int | None) -> F64:
    """Return a region of gain·I."""
    rows, columns = np.ix_(*(np.asarray(held, np.int64) for held in region.axes))
    return np.where(rows == columns, law.gain, 0.0)


def sparse(law: Sparse, seed: int, name: str, region: Region, engine: Engine, threads: int | None) -> F64:
    r"""Return a region of normals of which ceil(sparsity·rows) in each column are zero.

    In each column those elements are zero whose words in the stream name\0mask are smallest; of equal words the first.
    """
    out = np.zeros(region.shape)
    if not region.size:
        return out
    starts, width = region.runs()
    values = np.zeros(region.size, np.float32)
    if law.std:
        engine.draw(values, draw_of(Normal(law.std)), key(seed, name), starts, width, False)
    column = Region(region.full_shape)[:, :]
    for j, position in enumerate(region.axes[1]):
        starts, width = column[:, position : position + 1].runs()
        order = np.argsort(words(key(seed, name, "mask"), starts, width).ravel(), kind="stable")
        kept = np.ones(region.full_shape[0], bool)
        kept[order[: law.zeros(region.full_shape)]] = False
        out[:, j] = np.where(kept[np.asarray(region.axes[0])], values.reshape(region.shape)[:, j], 0.0)
    return out


def sphere(law: Sphere, seed: int, name: str, region: Region, engine: Engine, threads: int | None) -> F64:
    """Return a region of vectors of equal length: standard normals, each vector divided by its length in binary64."""
    axis, whole = law.axis, Region(region.full_shape)
    lines = (
        whole
        if axis is None
        else Region(whole.full_shape, (*region.axes[:axis], whole.axes[axis], *region.axes[axis + 1 :]))
    )
    drawn = np.empty(lines.size, np.float32)
    engine.draw(drawn, draw_of(Normal(1.0)), key(seed, name), *lines.runs(), False)
    values = drawn.astype(np.float64).reshape(lines.shape)
    squares = values.reshape(-1) ** 2 if axis is None else np.moveaxis(values, axis, -1) ** 2
    length = np.sqrt(fold(np.ascontiguousarray(squares)))
    values *= law.radius / (length if axis is None else np.expand_dims(length, axis))
    held = (
        region.axes
        if axis is None
        else (*map(range, lines.shape[:axis]), region.axes[axis], *map(range, lines.shape[axis + 1 :]))
    )
    return values[np.ix_(*held)]
