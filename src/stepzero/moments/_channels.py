"""Channels with the same moments are computed once: a concatenation of blocks has as many kinds as blocks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._signal import Moments, Signal

FEW_CHANNELS = 8  # fewer are not worth looking for equal ones


def runs_of(root: Signal) -> tuple[Tensor | None, Tensor]:
    """Find runs of channels with the same moments: the first of each run, and the run of each channel."""
    m = root.moments
    nothing = torch.zeros(0, dtype=torch.long)
    count = max(t.shape[1] if t.dim() > 1 else 1 for t in m)
    if count < FEW_CHANNELS:
        return None, nothing
    starts = torch.ones(count, dtype=torch.bool)
    starts[1:] = False
    for t in m:
        if t.dim() > 1 and t.shape[1] == count:
            starts[1:] |= (t[:, 1:] != t[:, :-1]).transpose(0, 1).flatten(1).any(1)
    first = starts.nonzero().flatten()
    return (None, nothing) if 2 * first.numel() > count else (first, starts.cumsum(0) - 1)


def one_of_each(root: Signal, first: Tensor, group: Tensor) -> Signal:
    """Return the signal of one channel for each run; a run's small changes are averaged."""
    runs, count = first.numel(), group.numel()

    def average(t: Tensor) -> Tensor:
        if t.dim() < 2 or t.shape[1] != count:
            return t
        mean: Tensor = MeanOfRuns.apply(t, group)  # type: ignore[no-untyped-call]
        return mean

    m = root.moments.each(lambda t: t[:, first] if t.dim() > 1 and t.shape[1] == count else t)
    change = None if root.tangent is None else root.tangent.each(average)
    parts = [part._replace(change=part.change.each(average)) for part in root.parts]
    roles = (*root.roles[:1], R.single(runs, "channel"), *root.roles[2:])
    shape = (root.shape[0], runs, *root.shape[2:])
    return Signal(
        shape,
        roles,
        m,
        change,
        unevenness=root.unevenness,
        tap=root.tap,
        stream=root.stream,
        parts=parts,
        tails=root.tails,
    )


class MeanOfRuns(torch.autograd.Function):
    """Averages over runs of channels, which keep nothing but the runs for their backward pass."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, group: Tensor) -> Tensor:
        """Average along axis 1."""
        sizes = torch.bincount(group).to(t.dtype)
        share = (1.0 / sizes).reshape(-1, *(1,) * (t.dim() - 2))
        ctx.group, ctx.share = group, share
        return t.new_zeros(t.shape[0], sizes.numel(), *t.shape[2:]).index_add(1, group, t) * share

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Hand each channel its share."""
        (g,) = grads
        return (g * ctx.share)[:, ctx.group], None


def spread(m: Moments, group: Tensor) -> Moments:
    """Give every channel of a run its run's moments."""
    runs = int(group[-1]) + 1
    return m.each(lambda t: t[:, group] if t.dim() > 1 and t.shape[1] == runs and runs > 1 else t)
