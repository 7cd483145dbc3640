"""Boxes of a tensor: the slices that a view covers, and whether boxes leave anything out."""

from __future__ import annotations

import math
from typing import Any

import torch


def box_of(inner: tuple[Any, Any, int], outer: tuple[Any, Any, int]) -> tuple[slice, ...] | None:
    """Return the slices of `outer` that `inner` views, both given by size, stride and offset; None if it is no box.

    Examples:
        >>> box_of(((2,), (6,), 1), ((2, 6), (6, 1), 0))
        (slice(0, 2, 1), slice(1, 2, 1))
    """
    (size, stride, offset), (out_size, out_stride, out_offset) = inner, outer
    steps = {step: n for n, step in zip(size, stride, strict=True) if n > 1}
    rest, box = offset - out_offset, []
    for n, step in zip(out_size, out_stride, strict=True):
        start = rest // step if n > 1 else 0
        rest -= start * step
        length = steps.pop(step, 1) if n > 1 else 1
        if not 0 <= start <= n - length:
            return None
        box.append(slice(start, start + length, 1))
    return None if rest or steps else tuple(box)


def rows_of(inner: tuple[Any, Any, int], outer: tuple[Any, Any, int]) -> tuple[slice, ...] | None:
    """Return the whole rows of `outer` whose memory `inner` covers in whatever shape; None if there are none such.

    Examples:
        >>> rows_of(((2, 4), (4, 1), 8), ((3, 2, 4), (8, 4, 1), 0))
        (slice(1, 2, 1), slice(0, 2, 1), slice(0, 4, 1))
    """
    (size, stride, offset), (out_size, out_stride, out_offset) = inner, outer
    row = math.prod(out_size[1:])
    if not (is_dense(size, stride) and is_dense(out_size, out_stride) and row):
        return None
    first, odd = divmod(offset - out_offset, row)
    count, left = divmod(math.prod(size), row)
    if odd or left or first < 0 or first + count > out_size[0]:
        return None
    return (slice(first, first + count, 1), *(slice(0, n, 1) for n in out_size[1:]))


def is_dense(size: Any, stride: Any) -> bool:
    """Say whether elements lie in memory one after the other, in row-major order.

    Examples:
        >>> is_dense((2, 3), (3, 1)), is_dense((2, 3), (6, 1))
        (True, False)
    """
    step = 1
    for n, own in zip(reversed(size), reversed(stride), strict=True):
        if n > 1 and own != step:
            return False
        step *= n
    return True


def inside(inner: tuple[slice, ...], outer: tuple[slice, ...]) -> bool:
    """Say whether a box lies in another."""
    return all(o.start <= i.start and i.stop <= o.stop for i, o in zip(inner, outer, strict=True))


def within(outer: tuple[slice, ...], inner: tuple[slice, ...]) -> tuple[slice, ...] | None:
    """Return a box of a box as a box of the tensor; None where axes were merged. Axes of size 1 may have been dropped.

    Examples:
        >>> within((slice(2, 3, 1), slice(4, 8, 1)), (slice(1, 2, 1),))
        (slice(2, 3, 1), slice(5, 6, 1))
    """
    axes = range(len(outer)) if len(inner) == len(outer) else [a for a, s in enumerate(outer) if s.stop - s.start > 1]
    if len(axes) != len(inner):
        return None
    box = list(outer)
    for axis, cut in zip(axes, inner, strict=True):
        start = outer[axis].start
        box[axis] = slice(start + cut.start, start + cut.stop, 1)
    return tuple(box)


def covers(boxes: list[tuple[slice, ...]], shape: tuple[int, ...]) -> bool:
    """Say whether boxes leave nothing of a tensor out; the tensor is cut at their edges, so its size does not matter.

    Examples:
        >>> covers([(slice(0, 3), slice(0, 4)), (slice(3, 4), slice(0, 4))], (4, 4))
        True
    """
    edges = [
        sorted({0, n, *(e for box in boxes for e in (box[axis].start, box[axis].stop))}) for axis, n in enumerate(shape)
    ]
    cells = torch.zeros([len(axis) - 1 for axis in edges], dtype=torch.bool)
    for box in boxes:
        cells[tuple(slice(e.index(s.start), e.index(s.stop)) for e, s in zip(edges, box, strict=True))] = True
    return bool(cells.all())
