"""Law → what writes its values into an array: one table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stepzero.laws import (
    Constant,
    DeltaOrthogonal,
    Dirac,
    Identity,
    Law,
    Mapped,
    Normal,
    Norms,
    Orthogonal,
    Sparse,
    Sphere,
    TruncatedNormal,
    Uniform,
    Values,
)

from ._draws import draw_of, standard_draw
from ._engine import Engine, fold, spread
from ._jobs import Job, plain
from ._key import key
from ._orthogonal import delta_orthogonal, orthogonal
from ._patterns import dirac, identity, sparse, sphere
from ._region import Region
from ._storage import storage

BEYOND_CACHES = 2**25  # bytes; what is larger would be gone from the caches before anybody reads it


def write(job: Job) -> None:
    """Write every box, and both halves of complex numbers."""
    for simple in job.simple() if job.region.size else ():
        for part in simple.split():
            WRITERS[type(part.law)](part)


def _given(job: Job) -> None:
    """Write given numbers."""
    at = np.ix_(*(np.asarray(held, np.int64) for held in job.region.axes))
    law: Any = job.law
    values = law.array[at] if job.region.axes else law.array
    if job.kind.name == "bfloat16":
        job.store(job.array, np.ascontiguousarray(values, np.float32).reshape(job.array.shape))
    else:
        job.array[...] = values


def _drawn(job: Job) -> None:
    """Write elements that are drawn alike and independently."""
    recipe = draw_of(job.law, math.sqrt(0.5) if job.purpose else 1.0)
    recipe = replace(recipe, shift=0.0) if job.purpose == "im" else recipe
    stream = key(job.seed, job.name, job.purpose)
    streamed = job.array.nbytes >= BEYOND_CACHES

    def write(cut: tuple[Any, ...]) -> None:
        view = job.array[cut]
        direct = job.kind.name in ("float32", "bfloat16") and view.flags.c_contiguous and view.flags.aligned
        values = view if direct else np.empty(view.shape, np.float32)
        job.engine.draw(values.reshape(-1), recipe, stream, *job.region[cut].runs(), streamed)
        if not direct:
            job.store(view, values)

    spread(write, job.pieces(), job.threads)


def _mapped(job: Job) -> None:
    """Write functions of draws: computed in binary64, rounded once to binary32."""
    recipe, centre, scale = standard_draw(job.law.law)  # type: ignore[attr-defined]
    stream = key(job.seed, job.name)

    def write_piece(cut: tuple[Any, ...]) -> None:
        region = job.region[cut]
        draws = np.empty(region.size, np.float32)
        job.engine.draw(draws, recipe, stream, *region.runs(), False)
        values = job.law.of(centre + scale * draws.astype(np.float64))  # type: ignore[attr-defined]
        job.store(job.array[cut], values.astype(np.float32).reshape(region.shape))

    spread(write_piece, job.pieces(), job.threads)


def _norms(job: Job) -> None:
    """Write lengths of slices of another tensor, some slices at a time; each sum has one order, whoever holds what."""
    law: Any = job.law
    place = law.place(job.region.full_shape)
    held = range(1) if place is None else job.region.axes[place]
    source, axis = Region(law.shape), law.axis
    step = max(1, job.engine.chunk * law.count // source.size)
    found = np.empty(len(held), np.float32)
    for start in range(0, len(held), step):
        some = held[start : start + step]
        region = source if axis is None else Region(law.shape, (*source.axes[:axis], some, *source.axes[axis + 1 :]))
        values = np.empty(region.shape, np.float32)
        inner = replace(job, array=values, region=region, law=plain(law.law), name=law.of, kind=storage("float32"))
        write(inner)
        rows = values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, 0).reshape(len(some), -1)
        found[start : start + step] = np.sqrt(fold(rows.astype(np.float64) ** 2))
    job.store(job.array, found.reshape(job.region.shape))


def _constant(job: Job) -> None:
    """Write one value, rounded once from the law's own number."""
    if job.kind.name == "bfloat16":
        job.store(job.array, np.full(job.array.shape, job.law.mean, np.float32))
    else:
        job.array[...] = job.law.mean


class Maker(Protocol):
    """What makes a region of a tensor in binary64."""

    def __call__(
        self, law: Any, seed: int, name: str, region: Region, engine: Engine, threads: int | None
    ) -> NDArray[np.float64]:
        """Return the values of the region."""
        ...


def _made(maker: Maker, whole: bool = False) -> Callable[[Job], None]:
    def write(job: Job) -> None:
        for cut in [(...,)] if whole else job.pieces():
            values = maker(job.law, job.seed, job.name, job.region[cut], job.engine, job.threads)
            job.store(job.array[cut], values.astype(np.float32))

    return write


WRITERS: Mapping[type[Law], Callable[[Job], None]] = MappingProxyType({
    # drawn alike and independently
    Normal: _drawn, Uniform: _drawn, TruncatedNormal: _drawn,
    # one value
    Constant: _constant, Values: _given,
    # functions of draws
    Mapped: _mapped, Norms: _norms,
    # patterns
    Dirac: _made(dirac), Identity: _made(identity), Sparse: _made(sparse, whole=True),
    Sphere: _made(sphere, whole=True),
    # matrices
    Orthogonal: _made(orthogonal, whole=True), DeltaOrthogonal: _made(delta_orthogonal, whole=True),
})  # fmt: skip
