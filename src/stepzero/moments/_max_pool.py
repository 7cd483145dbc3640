"""Max pooling, jointly with the pending activation: the largest of a window of correlated Gaussians."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _pointwise as P
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule, tensor64
from stepzero.moments._gates import gated
from stepzero.moments._joins import multiply
from stepzero.moments._signal import Moments, Signal, widen
from stepzero.moments._smoothing import option, spatial_rank, written
from stepzero.moments._stream import Power, Stream, skewness_of
from stepzero.theory._extremes import expand_maximum, overlap
from stepzero.theory._hermite import ORDER, Expansion, pair

Array = NDArray[np.float64]
EXACT_WINDOWS = 64  # more different windows than this are interpolated in their correlation, or rounded
ROUNDING = 2e-3  # of (mean, sd, ρ) where there are more


def max_pooled(call: Call) -> Signal | tuple[Signal | None, ...]:
    """The largest of a window: P(max > 0) is 0.94, not ½, for 2×2 after ReLU, so both ops are one rule.

    A gate of a whole channel that is not negative scales the largest: max(g·x) = g·max(x) (squeeze-and-excite).
    """
    parts = gated(call)
    if parts is None:
        y = _largest(call, call.operand(call.main))
    else:
        pooled = _largest(call, parts[0])
        y = multiply(call, pooled, widen(parts[1], pooled.shape, pooled.roles))
    return y if len(call.node.outputs) == 1 else (y, *[None] * (len(call.node.outputs) - 1))


def adaptive(call: Call) -> Signal | tuple[Signal | None, ...]:
    """Windows of a given number: of size n - (o - 1)·⌊n/o⌋ at steps of ⌊n/o⌋, which is exact where o divides n."""
    d = spatial_rank(call.op)
    sizes = list(zip(call.operand(call.main).shape[-d:], call.shape[-d:], strict=True))
    steps = [max(n // o, 1) for n, o in sizes]
    if any(o > n for n, o in sizes):
        raise NoRuleError(f"{call.op} (at {call.where}) that enlarges a map has no rule")
    kernel = [n - (o - 1) * s for (n, o), s in zip(sizes, steps, strict=True)]
    arguments = {**call.node.arguments, "kernel_size": kernel, "stride": steps, "padding": 0, "dilation": 1}
    return max_pooled(replace(call, node=replace(call.node, arguments=arguments)))


@np.errstate(over="ignore", invalid="ignore")  # a signal that explodes is told of where it meets a weight
def _largest(call: Call, x: Signal) -> Signal:
    """The largest of each window of φ(root).

    Members of a window are taken as equally correlated, by the average of their pairs (`_Window.closeness`). A small
    change reaches the output where φ'(max) ≠ 0; in pairs, E[φ'²]² stands for E[φ'φ'].
    Windows that overlap by s of k members have the same largest one with probability s/(2k - s). Those that do are among
    the other places of a map: on 16×16 they are a tenth of what the mean of a normalised map is made of.
    """
    root, phi = P.root_of(x)
    window = _Window(call, root)
    m = root.moments.each(window.average)
    expansion = _Expanded(phi, m, window)
    tangent = None
    if root.tangent is not None:
        c = root.tangent.each(window.average)
        slope = expansion.slope_second
        second, near, *rest = c.second * slope, *(t * slope**2 for t in c[2:])
        tangent = Moments(tensor64(0.0), second, near + (second - near) * window.same_largest(), *rest)
    roles = R.replaced(root.roles, call.shape, window.dims, "position")
    return Signal(call.shape, roles, expansion.moments(), tangent, stream=Stream(expansion.skewness()))


class _Window:
    """The windows of a pooling op: how many valid members each has, and what it averages."""

    def __init__(self, call: Call, x: Signal) -> None:
        n, rank = spatial_rank(call.op), len(x.shape)
        self.dims, self.shape = tuple(range(rank - n, rank)), x.shape
        self.kernel = self._options(call, "kernel_size", None)
        self.stride = self._options(call, "stride", None)
        self.padding, self.dilation = self._options(call, "padding", 0), self._options(call, "dilation", 1)
        self.out = [call.shape[d] for d in self.dims]
        self.valid = _valid(call, [x.shape[d] for d in self.dims]).reshape(
            [1] * (rank - n) + [x.shape[d] for d in self.dims]
        )
        self.members = self._total(self.valid).clamp_min(1.0)

    def _options(self, call: Call, name: str, default: int | None) -> list[int]:
        n = len(self.dims)
        fallback = [default] * n if default is not None else getattr(self, "kernel", [])
        return [int(option(call.argument(name), i, fallback[i] if fallback else None)) for i in range(n)]

    def closeness(self, c: float) -> float:
        """Average cⁿ⁻¹ over pairs of members at l1 distance n: what neighbours share beyond the rest fades like that."""
        pairs = prod(self.kernel) ** 2 - prod(self.kernel)
        lags = [np.abs(np.subtract.outer(np.arange(k), np.arange(k))) for k in self.kernel]
        total = prod(float(np.power(c, d * lag).sum()) for d, lag in zip(self.dilation, lags, strict=True))
        return (total - prod(self.kernel)) / (c * pairs) if pairs else 1.0

    def overlaps(self) -> list[float]:
        """Share of a window's members that the next window along each axis has as well."""
        sides = zip(self.kernel, self.stride, self.dilation, self.out, strict=True)
        return [max(0, k - s) / k if d == 1 else 0.0 for k, s, d, o in sides if o > 1]

    def meetings(self) -> dict[float, float]:
        """For each share of members that two windows have in common: the share of other windows with which one has it."""
        axes = [
            [((k - i * s) / k, 2.0 * (o - i) / o if i else 1.0) for i in range(o if d == 1 else 1) if k > i * s]
            for k, s, d, o in zip(self.kernel, self.stride, self.dilation, self.out, strict=True)
        ]
        found: dict[float, float] = {}
        for lag in product(*axes):
            share, windows = (prod(t) for t in zip(*lag, strict=True))
            if share < 1.0:
                found[share] = found.get(share, 0.0) + windows / (prod(self.out) - 1)
        return found

    def same_largest(self) -> float:
        """Probability that neighbouring windows have the same largest member, over the axes."""
        shares = self.overlaps()
        return sum(s / (2 - s) for s in shares) / max(1, len(shares))

    def average(self, t: Tensor) -> Tensor:
        """Average a lean tensor over each window's valid members."""
        return self._total(written(t, self.shape, self.dims) * self.valid) / self.members

    def _total(self, t: Tensor) -> Tensor:
        """Sum over windows; those of ceil_mode may run over the right border."""
        n = len(self.dims)
        flat = t.reshape(-1, 1, *t.shape[self.dims[0] :])
        sizes = zip(flat.shape[2:], self.kernel, self.stride, self.padding, self.dilation, self.out, strict=True)
        borders = [(p, max(p, (o - 1) * s + d * (k - 1) + 1 - size - p)) for size, k, s, p, d, o in sizes]
        flat = F.pad(flat, [v for sides in reversed(borders) for v in sides])
        conv = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
        ones = torch.ones((1, 1, *self.kernel), dtype=torch.float64)
        y = conv(flat, ones, stride=self.stride, dilation=self.dilation)
        y = y[(slice(None), slice(None), *(slice(0, o) for o in self.out))]
        return y.reshape(*t.shape[: self.dims[0]], *self.out)


def _valid(call: Call, sizes: list[int]) -> Tensor:
    """Return 1 where a maximum may be, and 0 where the op before padded with −∞."""
    maker = call.graph.producer(call.node.arguments[call.main].id)
    if maker is None or maker.op not in ("pad", "constant_pad_nd") or maker.arguments.get("value") != -math.inf:
        return torch.ones(sizes, dtype=torch.float64)
    pads = list(maker.arguments["pad"])[: 2 * len(sizes)]
    pads += [0] * (2 * len(sizes) - len(pads))
    sides = list(zip(pads[::2], pads[1::2], strict=True))[::-1]  # of the last axis first
    inner = [size - low - high for size, (low, high) in zip(sizes, sides, strict=True)]
    return F.pad(torch.ones(inner, dtype=torch.float64), pads)


class _Expanded:
    """φ(max) for each window: its expansion in the part that the window shares."""

    def __init__(self, phi: P.Pointwise, m: Moments, window: _Window) -> None:
        variance = (m.second - m.mean**2).clamp_min(0.0)
        tensors = torch.broadcast_tensors(m.mean, variance.sqrt(), window.members, *m[2:])
        mean, sd, count, *pairs = (t.numpy() for t in tensors)
        safe = np.where(sd > 0, sd**2, 1.0)
        near, *far = (np.clip((t - mean**2) / safe, 0.0, 1.0) for t in pairs)
        typical, rest = float(near.mean()), float(far[0].mean())
        c = min(max((typical - rest) / (1.0 - rest), 1e-6), 1.0) if rest < 1.0 else 1.0
        rho = far[0] + (near - far[0]) * window.closeness(c)
        flat = expand_windows(phi, mean.ravel(), sd.ravel(), count.ravel(), rho.ravel())
        self.coefficients = flat.coefficients.reshape(*mean.shape, -1)
        self.second = torch.from_numpy(flat.second.reshape(mean.shape))
        self.slope_second = torch.from_numpy(flat.slope_second.reshape(mean.shape))
        base = np.where(rho > 1e-9, rho, 1.0)
        self._ratios = [np.clip(r / base, 0.0, 1.0) for r in far]  # correlations as shares of the window's own
        self._dims = window.dims
        self._typical = tuple(np.array([t.mean()]) for t in (mean, sd, rho, count))
        self._phi, self._overlaps, self._meetings = phi, window.overlaps(), window.meetings()

    def skewness(self) -> float:
        """Skewness of the pooled map at its average window."""
        powers = (Power(self._phi, n) for n in (1, 2, 3))
        m1, m2, m3 = (float(expand_maximum(f, self._phi.kinks, *self._typical).mean[0]) for f in powers)
        return skewness_of(m1, m2, m3)

    def overlap(self, share: float) -> float:
        """What windows with a share of their members in common have in common beyond the shared part, at the average window."""
        mean, sd, rho, count = (float(t[0]) for t in self._typical)
        return overlap(self._phi, self._phi.kinks, mean, sd, rho, count, count * share)

    def moments(self) -> Moments:
        """Return the six moments of the pooled map."""
        b = self.coefficients
        typical = b.mean(axis=tuple(d for d in self._dims if b.shape[d] > 1), keepdims=True)
        elsewhere, across, apart = self._ratios
        beside = torch.from_numpy(pair(b, b, np.ones(1)))
        common = {share: self.overlap(share) for share in {*self._overlaps, *self._meetings}}
        near = sum(common[share] for share in self._overlaps) / max(1, len(self._overlaps))
        met = sum(common[share] * windows for share, windows in self._meetings.items())
        return Moments(
            torch.from_numpy(np.ascontiguousarray(b[..., 0])),
            self.second,
            beside + (self.second - beside) * near,
            torch.from_numpy(pair(b, typical, elsewhere)) + (self.second - beside) * met,
            torch.from_numpy(pair(b, b, across)),
            torch.from_numpy(pair(b, typical, apart)),
        )


def expand_windows(phi: P.Pointwise, mean: Array, sd: Array, count: Array, rho: Array) -> Expansion:
    """Expand at unique rows; homogeneous activations of centred signals need one curve in ρ for each count."""
    many = rho.size > EXACT_WINDOWS
    if many and _homogeneous(phi) and not np.any(np.abs(mean) > 1e-12 * sd):
        return _curves(phi, sd, count, rho)
    keys = np.stack([mean, sd, rho, count], axis=1)
    if many:
        scale = np.exp(np.round(np.log(np.maximum(sd, 1e-150)) / ROUNDING) * ROUNDING)
        shift = np.round(mean / scale / ROUNDING) * ROUNDING * scale
        keys = np.stack([shift, scale, np.round(rho / ROUNDING) * ROUNDING, count], axis=1)
    unique, back = np.unique(keys, axis=0, return_inverse=True)
    e = expand_maximum(phi, phi.kinks, *np.ascontiguousarray(unique.T))
    return e.rows(back.ravel())


def _curves(phi: P.Pointwise, sd: Array, count: Array, rho: Array) -> Expansion:
    """Interpolate in ρ, exactly scaled by the standard deviation."""
    rows = np.empty((rho.size, ORDER + 3))
    for k in np.unique(count):
        at = count == k
        low, high = float(rho[at].min()), float(rho[at].max())
        grid = np.linspace(low, high, 17) if high - low > 1e-9 else np.array([low])
        one = np.ones_like(grid)
        e = expand_maximum(phi, phi.kinks, 0 * one, one, grid, k * one)
        curve = np.concatenate([e.coefficients, e.second[:, None], e.slope_second[:, None]], axis=1)
        rows[at] = CubicSpline(grid, curve)(rho[at]) if grid.size > 1 else curve
    return Expansion(rows[:, :-2] * sd[:, None], rows[:, -2] * sd**2, rows[:, -1])


def _homogeneous(phi: P.Pointwise) -> bool:
    """Say whether φ(s·x) = s·φ(x) for s > 0."""
    linear = phi.linear
    return linear is not None and linear.intercept == 0.0 and all(kink == 0.0 for kink in linear.kinks)


MAX_POOLS: dict[str, Rule] = {
    **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"), adaptive),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), max_pooled),
    **dict.fromkeys(("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices"), max_pooled),
}
