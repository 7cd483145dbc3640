"""Fill an array with the values of a law: which elements of the logical tensor it holds decides them, nothing else."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from stepzero.errors import LawError
from stepzero.laws import Copy, DeltaOrthogonal, Law, Mapped, Norms, Orthogonal, Parts, Sparse, Sphere

from ._draws import DRAWS, draw_of
from ._engine import EngineName, engine
from ._guards import checked_shape, region_of, require_threads
from ._jobs import Job, plain
from ._key import key
from ._region import Region
from ._storage import Storage, empty, require_fit, storage
from ._writers import WRITERS, write

WHOLE = (Orthogonal, DeltaOrthogonal, Sparse, Sphere)  # elements depend on one another: made for all rows asked at once
REAL = (*WHOLE, Mapped, Norms)  # not defined for complex numbers


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
        >>> import numpy as np
        >>> from stepzero.laws import Normal
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
    write(job)


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
    if found.parts == 2 and type(law) in REAL:
        raise LawError(f"{law!r} is not defined for {found.name}: draw a real tensor, or give the law of its elements.")
    require_fit(law, found.name, shape)
    if isinstance(law, Norms):
        require_drawable(law.law, law.shape, storage("float32"))
    if type(simple := plain(law)) in DRAWS:
        draw_of(simple)
    return None


def made_whole(law: Law) -> bool:
    """Say whether elements of a law, or of some part of it, depend on one another."""
    parts = (law,) if not isinstance(law, Parts) else tuple(part for _, part in law.parts)
    return made_whole(law.law) if isinstance(law, Copy) else any(isinstance(part, WHOLE) for part in parts)


_engine = engine  # `fill` takes an argument of the same name
