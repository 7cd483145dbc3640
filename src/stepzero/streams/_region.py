"""Which elements of a logical tensor an array holds: any rectangle, any strided slice, as one value that slices further."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from types import EllipsisType

import numpy as np
from numpy.typing import NDArray

from stepzero.errors import LawError

Select = slice | EllipsisType


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle, possibly strided, of a logical tensor: one range of positions per axis.

    Args:
        full_shape: Shape of the whole logical tensor.
        axes: Positions held along each axis; all of them where left out.

    Raises:
        LawError: if a position lies outside the tensor, or the tensor has 2^64 elements or more.

    Examples:
        >>> shard = Region((1000, 64))[250:500, ::2]
        >>> shard.shape, shard[:10].axes
        ((250, 32), (range(250, 260), range(0, 64, 2)))
    """

    full_shape: tuple[int, ...]
    axes: tuple[range, ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(operator.index(size) for size in self.full_shape)
        object.__setattr__(self, "full_shape", shape)
        object.__setattr__(self, "axes", tuple(self.axes) or tuple(range(size) for size in shape))
        if min(shape, default=0) < 0 or math.prod(shape) >= 2**64:
            raise LawError(f"shape {shape} is no tensor of fewer than 2^64 elements.")
        if len(self.axes) != len(shape):
            raise LawError(
                f"region with {len(self.axes)} ranges for the {len(shape)} axes of shape {shape}. Give one each."
            )
        for axis, (held, size) in enumerate(zip(self.axes, shape, strict=True)):
            if held and (min(held[0], held[-1]) < 0 or max(held[0], held[-1]) >= size):
                raise LawError(
                    f"region {held} leaves axis {axis} of shape {shape}: positions run from 0 to {size - 1}."
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array that holds this region."""
        return tuple(map(len, self.axes))

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __getitem__(self, select: Select | tuple[Select, ...]) -> Region:
        """Return the region that `array[select]` holds, where `array` holds this one. Slices only: no axis is dropped."""
        chosen = select if isinstance(select, tuple) else (select,)
        if Ellipsis in chosen:
            at = chosen.index(Ellipsis)
            chosen = (*chosen[:at], *(slice(None),) * (len(self.axes) - len(chosen) + 1), *chosen[at + 1 :])
        if len(chosen) > len(self.axes):
            raise LawError(f"{len(chosen)} slices for the {len(self.axes)} axes of shape {self.full_shape}.")
        cuts = (*chosen, *(slice(None),) * (len(self.axes) - len(chosen)))
        if not all(isinstance(cut, slice) for cut in cuts):
            raise LawError(f"a region is cut by slices alone, got {select!r}. Write 3:4 for 3.")
        return Region(
            self.full_shape,
            tuple(held[cut] for held, cut in zip(self.axes, cuts, strict=True) if isinstance(cut, slice)),
        )

    def pieces(self, limit: int) -> Iterator[tuple[slice, ...]]:
        """Yield slices that cut this region, in C order, into parts of at most `limit` elements."""
        lengths, cut = list(self.shape), 0
        while cut < len(lengths) and math.prod(lengths[cut + 1 :]) > limit:
            cut += 1
        if self.size <= limit or cut == len(lengths):
            yield (slice(None),) * len(lengths)
            return
        rows = max(1, limit // math.prod(lengths[cut + 1 :]))
        for outer in np.ndindex(*lengths[:cut]):
            for start in range(0, lengths[cut], rows):
                yield (*(slice(i, i + 1) for i in outer), slice(start, start + rows))

    def runs(self) -> tuple[NDArray[np.uint64], int]:
        """Return first element and common length of the runs of consecutive elements that make up the region, in C order."""
        strides = [math.prod(self.full_shape[axis + 1 :]) for axis in range(len(self.axes))]
        inner, width = len(self.axes), 1
        while inner and width == strides[inner - 1] and self.axes[inner - 1].step == 1:
            inner -= 1
            width *= len(self.axes[inner])
        start = sum(held.start * stride for held, stride in zip(self.axes[inner:], strides[inner:], strict=True))
        starts = np.full(1, start, np.uint64)
        for held, stride in zip(self.axes[:inner], strides[:inner], strict=True):
            steps = np.arange(held.start, held.stop, held.step).astype(np.uint64) * np.uint64(stride)
            starts = (starts[:, None] + steps).ravel()
        return starts, width
