"""Channels that are alike are computed once: a concatenation of k features has k different channels, not hundreds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._signal import Moments

Back = Callable[[Tensor], Tensor]


def distinct_channels(m: Moments, roles: R.Roles) -> tuple[Moments, Back]:
    """Return the moments of runs of equal channels, one for each run, and the map back to all channels."""
    for axis in R.axes(roles, "channel"):
        size = max((t.shape[axis] for t in m if t.dim() > axis), default=1)
        if size > 1:
            starts = _run_starts(m, axis, size)
            if int(starts.sum()) < size:
                return _gathered(m, axis, starts)
    return m, lambda t: t


def _run_starts(m: Moments, axis: int, size: int) -> Tensor:
    """Mark each channel that differs from the one before it in any moment."""
    starts = torch.zeros(size, dtype=torch.bool)
    starts[0] = True
    for t in {id(t): t for t in m}.values():
        if t.dim() > axis and t.shape[axis] > 1:
            differs = t.narrow(axis, 1, size - 1) != t.narrow(axis, 0, size - 1)
            starts[1:] |= differs.movedim(axis, 0).flatten(1).any(1)
    return starts


def _gathered(m: Moments, axis: int, starts: Tensor) -> tuple[Moments, Back]:
    first = starts.nonzero().flatten()
    run = starts.long().cumsum(0) - 1  # of each channel

    def pick(t: Tensor) -> Tensor:
        return t.index_select(axis, first) if t.dim() > axis and t.shape[axis] > 1 else t

    def back(t: Tensor) -> Tensor:
        return t.index_select(axis, run) if t.dim() > axis and t.shape[axis] == first.numel() > 1 else t

    return m.each(pick), back
