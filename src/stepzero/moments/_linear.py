"""A linear op on moments: its independent weights add by their variances, its given numbers as the map that they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._meetings import Meetings
from stepzero.moments._places import centred, shifted
from stepzero.moments._signal import Moments, Signal


@dataclass(frozen=True)
class Operator:
    """A linear op as maps of lean tensors: for independent weights of variance 1, and for a given weight."""

    variance: Callable[[Tensor], Tensor]  # x² map → y² map
    shared: Callable[[Tensor, Tensor | None], Tensor]  # (pair map, x² map) → pair map at any other output position
    beside: Callable[[Tensor], Tensor]  # pair map of neighbours → the same for the output
    given: Callable[[Tensor, Tensor], Tensor]  # (map, weight) → the op itself
    stride: Sequence[int]  # steps from an output to its neighbour, one for each kernel axis
    roles: R.Roles
    fold: Callable[[Tensor], Tensor] = lambda t: t  # map → the same with channels averaged that an output meets alike
    taps: Callable[[], float] = lambda: 1.0  # kernel positions, counted by how often they meet an input
    meetings: Callable[[], Meetings] | None = None  # what two outputs have in common, per input channel


class Weight:
    """What an op with this weight does to moments, and to those of a small change."""

    def __init__(self, op: Operator, w: Signal, x: Signal) -> None:
        self.op, self.fade, self.roles = op, fading(x), x.roles
        spread = (w.second - w.mean**2).clamp_min(0.0)
        self.variance = w.average(spread)
        self.fixed = w.mean.expand(w.shape) if bool(w.mean.any()) else None
        self.fold = op.fold if self.fixed is None else lambda t: t

    def __call__(self, m: Moments, *, profile: Tensor | None) -> Moments:
        """Return the output's moments; `profile` says how the input's scale varies over the map."""
        op, v = self.op, self.variance
        if self.fixed is not None and not v:
            return self._fixed_map(m, self.fixed)
        second, elsewhere = op.variance(m.second) * v, op.shared(m.elsewhere, profile) * v
        across = second if m.across is m.second else op.variance(m.across) * v
        apart = elsewhere if m.apart is m.elsewhere else op.shared(m.apart, profile) * v
        y = Moments(torch.zeros_like(second), second, op.beside(m.near) * v, elsewhere, across, apart)
        if self.fixed is None:
            return y
        return Moments(*(a + b for a, b in zip(y, self._fixed_map(m, self.fixed), strict=True)))

    def _fixed_map(self, m: Moments, w: Tensor) -> Moments:
        """Take the mean through the op by itself: a place and another one have means of their own."""
        y = fixed_map(self.op, centred(m, self.roles), w, self.fade)
        return shifted(y, self.op.given(m.mean, w), self.op.roles)


def fixed_map(op: Operator, m: Moments, w: Tensor, fade: float) -> Moments:
    """Return the moments of Σ w x for given numbers w and a centred x: private parts add by w², what all places share by (Σ w)².

    With other channels independent, E[(Σ w x)²] = Σ w²(q - n) + Σ_tt' w w' c^(|t-t'|-1) (n - e) + (Σ_t w)² e: what
    neighbours share beyond distant places, n - e, fades by c from step to step. Tap sums are those of the whole kernel,
    so a zero-padded border is an approximation (padding by a pad op is exact).
    """
    axes = tuple(range(2, w.dim()))
    sums = w.sum(dim=axes, keepdim=True) if axes else w
    private, beyond = op.given(m.second - m.near, w**2), m.near - m.elsewhere
    elsewhere, apart = op.given(m.elsewhere, w * sums), op.given(m.apart, w * sums)
    second = private + op.given(beyond, w * _meeting(w, [0] * len(axes), fade)) + elsewhere
    steps = [[s if i == d else 0 for i in range(len(axes))] for d, s in enumerate(op.stride)]
    beside = sum(_meeting(w, step, fade) for step in steps) / len(steps) if steps else w
    near = private * _overlap(w, op.stride) + op.given(beyond, w * beside) + elsewhere
    across = op.given(m.across - m.apart, w**2) + apart
    return Moments(m.mean, second, near, elsewhere, across, apart)


def fading(x: Signal) -> float:
    """Return c, by which what neighbours share beyond distant places fades from step to step."""
    m = x.moments
    q, near, elsewhere = (x.average(t) for t in (m.second, m.near, m.elsewhere))
    return min(max((near - elsewhere) / (q - elsewhere), 1e-6), 1.0) if q - elsewhere > 1e-9 * q else 1.0


def _meeting(w: Tensor, steps: Sequence[int], fade: float) -> Tensor:
    """Return Σ_t' w_t' g(|t - t' - steps|) for each tap t, with g(0) = 1 and g(n) = cⁿ⁻¹ in l1 distance."""
    all_taps, own = w, w
    for d, s in enumerate(steps, start=2):
        line = torch.arange(w.shape[d], dtype=w.dtype)
        lag = (line[:, None] - line - s).abs()
        all_taps = torch.movedim(torch.movedim(all_taps, d, -1) @ (fade**lag).T, -1, d)
        own = torch.movedim(torch.movedim(own, d, -1) @ (lag == 0).to(w.dtype).T, -1, d)
    return own + (all_taps - own) / fade


def _overlap(w: Tensor, stride: Sequence[int]) -> float:
    """Return the share of Σ w² that the outputs of two neighbouring positions have in common, over the axes."""
    total = float((w**2).sum())
    products = []
    for d, s in enumerate(stride, start=2):
        left = w.shape[d] - s
        products.append(float((w.narrow(d, s, left) * w.narrow(d, 0, left)).sum()) if left > 0 else 0.0)
    return sum(products) / len(products) / total if products and total else 0.0
