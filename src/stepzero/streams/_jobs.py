"""One array to fill, taken apart: into its boxes, its real and imaginary halves, and chunks of a size that caches hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepzero.laws import Constant, Copy, Law, Mapped, Parts

from ._draws import DRAWS
from ._engine import Engine
from ._key import Purpose
from ._region import Region
from ._storage import Storage, storage


def plain(law: Law) -> Law:
    """Return the constant that a law without spread is; any other law as it is."""
    drawn = law.law if isinstance(law, Mapped) else law
    return Constant(law.mean) if type(drawn) in DRAWS and drawn.std == 0 else law


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
        if type(law) not in DRAWS and not isinstance(law, (Constant, Mapped)):
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
