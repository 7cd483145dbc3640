"""Places with the same moments are computed once: inside its borders a map is alike, row by row and column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepzero.moments._signal import Moments

Array = NDArray[np.float64]

FEW_PLACES = 8  # along an axis: fewer are not worth looking for equal ones


class Run(NamedTuple):
    """Runs of equal slices along one axis."""

    axis: int
    first: Tensor  # of each run
    group: Tensor  # the run that each slice belongs to

    def few(self, t: Tensor) -> Tensor:
        """Keep one slice for each run."""
        return t.index_select(self.axis, self.first) if t.shape[self.axis] == self.group.numel() else t

    def whole(self, t: Tensor) -> Tensor:
        """Give every slice of a run its run's numbers; what is alike all along the axis stays in one piece."""
        return t.index_select(self.axis, self.group) if t.shape[self.axis] == self.first.numel() > 1 else t

    @property
    def shares(self) -> Array:
        """The share of the axis that each run makes up."""
        return np.asarray(np.bincount(self.group.numpy()) / self.group.numel())


class Repeats(NamedTuple):
    """Runs of equal slices along the axes of a map."""

    runs: tuple[Run, ...] = ()

    @classmethod
    def of(cls, moments: Moments, rank: int) -> tuple[Repeats, Moments]:
        """Find what is alike in moments of a rank, and return them with one slice for each run."""
        if any(t.dim() != rank for t in moments):
            return cls(), moments
        runs: list[Run] = []
        for axis in range(rank):
            run = _run_along(list({id(t): t.numpy() for t in moments}.values()), axis)
            if run is not None:
                runs.append(run)
                moments = moments.each(run.few)
        return cls(tuple(runs)), moments

    def spread(self, t: Tensor) -> Tensor:
        """Give every slice of a run its run's numbers."""
        for run in self.runs:
            t = run.whole(t)
        return t

    def average(self, a: Array, axes: Sequence[int]) -> Array:
        """Average over axes, kept with size 1, as if every slice were there."""
        for run in self.runs:
            if run.axis in axes and a.shape[run.axis] == run.first.numel():
                shares = run.shares.reshape([-1 if d == run.axis else 1 for d in range(a.ndim)])
                a = (a * shares).sum(axis=run.axis, keepdims=True)
        rest = tuple(d for d in axes if a.shape[d] > 1)
        return np.asarray(a.mean(axis=rest, keepdims=True)) if rest else a


def _run_along(maps: Sequence[Array], axis: int) -> Run | None:
    """Find runs of slices that are equal in every map; None where they would not halve the axis."""
    size = max(a.shape[axis] for a in maps)
    if size < FEW_PLACES:
        return None
    starts = np.ones(size, dtype=bool)
    starts[1:] = False
    others = tuple(d for d in range(maps[0].ndim) if d != axis)
    for slices in (a.swapaxes(0, axis) for a in maps if a.shape[axis] == size):
        starts[1:] |= (slices[1:] != slices[:-1]).swapaxes(0, axis).any(axis=others)
    first = np.flatnonzero(starts)
    if 2 * first.size > size:
        return None
    return Run(axis, torch.from_numpy(first), torch.from_numpy(starts.cumsum() - 1))
