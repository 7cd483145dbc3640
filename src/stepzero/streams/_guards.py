"""What is refused before anything is written: arrays that cannot take values, shapes and numbers of threads that are none."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepzero.errors import LawError

from ._region import Region


def region_of(array: NDArray[Any], index: Region | None) -> Region:
    """Return the region that an array is to hold.

    Raises:
        LawError: if it is no NumPy array, not writable, of another shape, or has elements that share memory.
    """
    if not isinstance(array, np.ndarray):
        raise LawError(
            f"{type(array).__name__} is no NumPy array. For a torch tensor pass tensor.numpy(), or use plan.apply_(model)."
        )
    if not isinstance(index, Region | None):
        raise LawError(f"index={index!r} is no Region. Give Region(full_shape)[start:stop, …].")
    region = Region(array.shape) if index is None else index
    if array.shape != region.shape:
        raise LawError(f"array of shape {array.shape} for a region of shape {region.shape} of {region.full_shape}.")
    if not array.flags.writeable:
        raise LawError(f"array of shape {array.shape} is read-only. Pass a writable one.")
    if array.size and _overlaps_itself(array):
        raise LawError(f"array of shape {array.shape} and strides {array.strides} has elements that share memory.")
    return region


def checked_shape(shape: Iterable[int]) -> tuple[int, ...]:
    """Return a shape as integers, or raise LawError."""
    try:
        return Region(tuple(map(operator.index, shape))).full_shape
    except TypeError:
        raise LawError(f"shape={shape!r} is no shape. Give integers, such as (5,) for a vector of 5.") from None


def require_threads(threads: int | None) -> None:
    """Raise LawError unless threads are a positive number, or None for all cores."""
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise LawError(f"threads={threads!r} is no number of threads. Give 1 or more, or None for all cores.")


def _overlaps_itself(array: NDArray[Any]) -> bool:
    """Say whether the axes, from the smallest stride to the largest, reach into one another."""
    reach = array.itemsize - 1
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if size > 1 and stride <= reach:
            return True
        reach += stride * (size - 1)
    return False
