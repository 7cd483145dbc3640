"""Fill an array with the values of a law: which elements of the logical tensor it holds decides them, nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stepzero.errors import LawError
from stepzero.laws import (
    Constant,
    Copy,
    DeltaOrthogonal,
    Dirac,
    Identity,
    Law,
    Normal,
    Orthogonal,
    Parts,
    Sparse,
    TruncatedNormal,
    Uniform,
    Values,
)

from ._draws import DRAWS, draw_of
from ._engine import Engine, EngineName, engine, spread
from ._guards import checked_shape, region_of, require_threads
from ._key import Purpose, key
from ._orthogonal import delta_orthogonal, orthogonal
from ._patterns import dirac, identity, sparse
from ._region import Region
from ._storage import Storage, empty, require_fit, storage

BEYOND_CACHES = 2**25  # bytes; what is larger would be gone from the caches before anybody reads it
WHOLE = (
    Orthogonal,
    DeltaOrthogonal,
    Sparse,
)  # laws whose elements depend on one another: made for all rows asked at once


def fill(
    array: NDArray[Any],
    law: Law,
    seed: int,
    name: str,
    index: Region | None = None,
    *,
    dtype: str | None = None,
    threads: int | None = 1,
    engine: EngineName = "auto",
) -> None:
    """Write into `array` the values of `law` in the stream of (seed, name), at the elements that `index` says it holds.

    Args:
        array: Of any strides; float16, float32, float64, complex64, complex128, or uint16 for the bits of bfloat16.
        law: Distribution of the whole tensor.
        seed: 0 ≤ seed < 2^64.
        name: Canonical name of the parameter.
        index: Which elements of the logical tensor the array holds; all of it by default.
        dtype: Number format, where the array's type does not tell: "bfloat16".
        threads: How many threads share the work; None for all cores.
        engine: `numpy`, `numba`, or `auto`: numba where it is installed and the array is large. The bits are the same.

    Raises:
        LawError: if the law cannot be drawn for this shape or dtype, or the array cannot be written; nothing is written then.
        SeedError: if the seed is out of range, or the name is no text.

    Examples:
        >>> whole = draw(Normal(1.0), (6, 4), seed=0, name="weight")
        >>> shard = np.empty((3, 4), np.float32)
        >>> fill(shard, Normal(1.0), 0, "weight", Region((6, 4))[3:])
        >>> bool((shard == whole[3:]).all())
        True
    """
    region = region_of(array, index)
    kind = storage(dtype or array.dtype, array.dtype)
    require_drawable(law, region.full_shape, kind)
    require_threads(threads)
    key(seed, name)
    job = Job(array, region, plain(law), seed, name, kind, _engine(engine, region.size), threads)
    for simple in job.simple() if region.size else ():
        for part in simple.split():
            WRITERS[type(part.law)](part)


def draw(
    law: Law, shape: tuple[int, ...], seed: int, name: str, dtype: str = "float32", *,
    threads: int | None = 1, engine: EngineName = "auto",
) -> NDArray[Any]:  # fmt: skip
    """Return a new array of this shape with the values of `law` in the stream of (seed, name); bfloat16 comes as 16-bit words.

    Raises:
        LawError: if the law cannot be drawn for this shape or dtype.
        SeedError: if the seed is out of range.
    """
    kind = storage(dtype)
    whole = checked_shape(shape)
    require_drawable(law, whole, kind)
    key(seed, name)
    array = empty(whole, kind)
    fill(array, law, seed, name, dtype=kind.name, threads=threads, engine=engine)
    return array


def require_drawable(law: Law, shape: tuple[int, ...], kind: Storage | str) -> None:
    """Raise LawError unless a tensor of this shape and number format can follow the law."""
    found = storage(kind) if isinstance(kind, str) else kind
    if isinstance(law, Copy):
        return require_drawable(law.law, shape, found)
    if isinstance(law, Parts):
        law.require(shape)
        for held, part in law.boxes(shape):
            require_drawable(part, tuple(map(len, held)), found)
        return None
    if type(law) not in WRITERS:
        raise LawError(
            f"{law!r} has no values to draw. Laws that do: {', '.join(known.__name__ for known in WRITERS)}."
        )
    law.require(shape)
    if found.parts == 2 and type(law) in WHOLE:
        raise LawError(f"{law!r} is not defined for {found.name}: draw a real tensor, or give the law of its elements.")
    require_fit(law, found.name, shape)
    if type(simple := plain(law)) in DRAWS:
        draw_of(simple)
    return None


def plain(law: Law) -> Law:
    """Return the constant that a law without spread is; any other law as it is."""
    return Constant(law.mean) if type(law) in DRAWS and law.std == 0 else law


def made_whole(law: Law) -> bool:
    """Say whether elements of a law, or of some part of it, depend on one another."""
    parts = (law,) if not isinstance(law, Parts) else tuple(part for _, part in law.parts)
    return made_whole(law.law) if isinstance(law, Copy) else any(isinstance(part, WHOLE) for part in parts)


@dataclass(frozen=True, slots=True)
class Job:
    """One array to fill, checked."""

    array: NDArray[Any]
    region: Region
    law: Law
    seed: int
    name: str
    kind: Storage
    engine: Engine
    threads: int | None
    purpose: Purpose | None = None

    def simple(self) -> Iterator[Job]:
        """Yield the jobs of one law each that make up one of parts, or of a copy."""
        if isinstance(self.law, Copy):
            yield from replace(self, law=plain(self.law.law), name=self.law.of).simple()
        elif isinstance(self.law, Parts):
            for held, law in self.law.boxes(self.region.full_shape):
                part = self._part(held, plain(law))
                yield from [part] if part.region.size else []
        else:
            yield self

    def _part(self, held: tuple[range, ...], law: Law) -> Job:
        """Return the job of what this one holds of a box. Laws that know positions or shapes see the box as a tensor."""
        cut = tuple(_within(mine, box) for mine, box in zip(self.region.axes, held, strict=True))
        at: Any = (*cut, ...)
        array, region, name = self.array[at], self.region[cut], self.name
        if type(law) not in DRAWS and not isinstance(law, Constant):
            axes = (range(r.start - b.start, r.stop - b.start, r.step) for r, b in zip(region.axes, held, strict=True))
            region = Region(tuple(map(len, held)), tuple(axes))
            name = f"{name}[{','.join(f'{box.start}:{box.stop}' for box in held)}]"
        return replace(self, array=array, region=region, law=law, name=name)

    def split(self) -> list[Job]:
        """Return the real jobs that make up a complex one: two streams, each with half of the variance."""
        if self.kind.parts == 1:
            return [self]
        kind = storage(self.array.real.dtype)
        imaginary = self.law if type(self.law) in DRAWS else Constant(0.0)
        real = replace(self, array=self.array.real, kind=kind, purpose="re")
        return [real, replace(real, array=self.array.imag, law=imaginary, purpose="im")]

    def pieces(self) -> list[tuple[slice | Any, ...]]:
        """Return slices that cut the array into chunks; the ellipsis keeps arrays without axes arrays."""
        return [(*cut, ...) for cut in self.region.pieces(self.engine.chunk)]

    def store(self, view: NDArray[Any], values: NDArray[np.float32]) -> None:
        """Round values to the number format and write them."""
        if self.kind.name != "bfloat16":
            view[...] = values
            return
        bits = view if view.flags.c_contiguous else np.empty(view.shape, np.uint16)
        self.engine.bfloat16(values.ravel(), bits.reshape(-1))
        if bits is not view:
            view[...] = bits


def _within(held: range, box: range) -> slice:
    """Return which of the positions held lie in a box: a run of them, since they are evenly spaced."""
    ascending = held if held.step > 0 else held[::-1]
    first = max(0, -(-(box.start - ascending.start) // ascending.step))
    last = max(first, min(len(ascending), -(-(box.stop - ascending.start) // ascending.step)))
    return slice(first, last) if held.step > 0 else slice(len(held) - last, len(held) - first)


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


_engine = engine  # `fill` takes an argument of the same name

WRITERS: Mapping[type[Law], Callable[[Job], None]] = MappingProxyType({
    # drawn alike and independently
    Normal: _drawn, Uniform: _drawn, TruncatedNormal: _drawn,
    # one value
    Constant: _constant, Values: _given,
    # patterns
    Dirac: _made(dirac), Identity: _made(identity), Sparse: _made(sparse, whole=True),
    # matrices
    Orthogonal: _made(orthogonal, whole=True), DeltaOrthogonal: _made(delta_orthogonal, whole=True),
})  # fmt: skip
