"""Rules for means and sums over any axes: places share what places share, channels only their mean."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule, dimensions
from stepzero.moments._signal import Moments, Signal

ROUNDING = 1e-12  # of a sum's terms: what is less where they cancel (a normalised map's mean) is nothing


def reduced(call: Call) -> Signal:
    """Mean or sum over any axes: places share e, channels share E[x]², inputs share what inputs share."""
    x = call.operand(call.main)
    rank = len(x.shape)
    dims = dimensions(call.argument("dim"), rank)
    size = prod(x.shape[d] for d in dims)
    total = _Total(x, dims, 1.0 / size if call.op == "mean" else 1.0)
    m, tangent = x.mapped(lambda m: total(m.ranked(rank)))
    roles = tuple(() if d in dims else axis for d, axis in enumerate(x.roles))
    if not call.argument("keepdim"):
        roles = tuple(axis for d, axis in enumerate(roles) if d not in dims)
        m = m.each(lambda t: t.squeeze(dims))
        tangent = None if tangent is None else tangent.each(lambda t: t.squeeze(dims))
    return Signal(call.shape, roles, m, tangent)


class _Total:
    """c·Σx over a set of axes, on moments: pair terms are c²·Σ over pairs of the set."""

    def __init__(self, x: Signal, dims: Sequence[int], c: float) -> None:
        self.shape, self.dims, self.c = x.shape, tuple(dims), c
        inside = tuple(x.roles[d] for d in dims)
        self.inputs, self.places = R.count(inside, "batch"), R.count(inside, "position")
        self.rest = R.count(x.roles, "position") // self.places  # places that stay apart
        self.size = prod(x.shape[d] for d in dims)
        self.channels = self.size / (self.inputs * self.places)

    def __call__(self, m: Moments) -> Moments:
        """Return the output's moments."""
        second = self._pairs(m, m.second, m.elsewhere, m.across, m.apart)
        return Moments(
            self._sum(m.mean) * self.c,
            second,
            self._pairs(m, m.near, m.elsewhere, m.apart, m.apart) if self.rest > 1 else second,
            self._pairs(m, m.elsewhere, m.elsewhere, m.apart, m.apart),
            self._pairs(m, m.across, m.apart, m.across, m.apart),
            self._pairs(m, m.apart, m.apart, m.apart, m.apart),
        )

    def _sum(self, t: Tensor) -> Tensor:
        return t.sum(dim=self.dims, keepdim=True) * prod(self.shape[d] for d in self.dims if t.shape[d] == 1)

    def _pairs(self, m: Moments, own: Tensor, place: Tensor, other: Tensor, apart: Tensor) -> Tensor:
        """Σ over pairs: an element with itself, another place, another input, both, and other channels."""
        p, b = self.places, self.inputs
        alike = own + (p - 1) * place + (b - 1) * other + (b - 1) * (p - 1) * apart
        strangers = (self.channels - 1) * p * b * m.mean * self._sum(m.mean) / self.size
        total = self._sum(alike + strangers)
        return torch.where(total.abs() < ROUNDING * self._sum(m.second), 0.0, total) * self.c**2


REDUCTIONS: dict[str, Rule] = {"mean": reduced, "sum": reduced}
