"""Rules for ops that mix positions with fixed coefficients: average pooling, adaptive pooling, resizing.

A weighted sum of places with coefficients c has second moment Σc²·(E[x²] - e) + (Σc)²·e, for e = E[x x'] at
another place: what ReLU leaves in common survives averaging, what is private does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._places import centred, of_others, shifted
from stepzero.moments._signal import Moments, Signal, ranked

LEAST_DECAY = 1e-6  # c of a signal whose neighbours share no more than any places
Line = Callable[[Call, int, Tensor, int], Tensor]


def smoothed(call: Call) -> Signal:
    """Average pooling, adaptive pooling, interpolation: a separable matrix along each position axis."""
    x = call.operand(call.main)
    rank, n = len(x.shape), spatial_rank(call.op)
    dims = range(rank - n, rank)
    matrices = [_matrix(call, i, x.shape[d], call.shape[d]) for i, d in enumerate(dims)]
    factor = n_divisor(call, dims, x.shape)
    mix = _Mix(x, dims, matrices)
    m, tangent = x.mapped(lambda m: mix(m).times(factor))
    return Signal(call.shape, mix.roles, m, tangent)


def spatial_rank(op: str) -> int:
    """Read the number of pooled axes off an op's name (avg_pool2d, upsample_bilinear2d, _upsample_bicubic2d_aa)."""
    return int(op.removesuffix("_aa").removesuffix("_with_indices")[-2])


def n_divisor(call: Call, dims: Sequence[int], shape: Sequence[int]) -> float:
    """avg_pool may divide by a number of its own: return the square of kernel size over divisor."""
    divisor = call.argument("divisor_override")
    if not divisor:
        return 1.0
    return (prod(int(option(call.argument("kernel_size"), i)) for i in range(len(dims))) / float(divisor)) ** 2


class _Mix:
    """y = (⊗ A_d) x over position axes, on moments.

    Pairs at l1 distance n count as E[x x'] = rest + (near - rest)·cⁿ⁻¹, with c of the signal itself and `rest` such that
    all pairs of the map average to `elsewhere`: a mean over the whole map is exact, one over a window is not.
    """

    def __init__(self, x: Signal, dims: Sequence[int], matrices: list[Tensor]) -> None:
        self.shape, self.dims, self.matrices = x.shape, tuple(dims), matrices
        out = [matrices[dims.index(d)].shape[0] if d in dims else n for d, n in enumerate(x.shape)]
        self.before, self.roles = x.roles, R.replaced(x.roles, out, dims, "position")
        self.places = prod(a.shape[1] for a in matrices)
        self.outputs = prod(a.shape[0] for a in matrices)
        self.decay, self.alike = _decay([a.shape[1] for a in matrices], x)
        together = zip(matrices, self.alike, strict=True)
        self.spread = [a @ c for a, c in together]  # what a pair of places adds to each of its own
        ones = torch.ones([x.shape[d] if d in self.dims else 1 for d in range(len(x.shape))], dtype=torch.float64)
        self.total = self._through(ones, matrices)

    def __call__(self, m: Moments) -> Moments:
        """Return the output's moments: its mean, which is of each place, and what the map is beyond that."""
        m = m.each(lambda t: written(t, self.shape, self.dims))
        mean = self._through(m.mean, self.matrices)
        return shifted(self._beyond_mean(centred(m, self.before)), mean, self.roles)

    def _beyond_mean(self, m: Moments) -> Moments:
        count = _pairs_alike(self.alike, self.decay)
        rest = (m.elsewhere * (self.places - 1) - m.near * count) / max(1.0, self.places - 1 - count)
        common = (m.near - rest) / self.decay
        private = m.second - rest - common
        second, total = self._own(private, common), self._all(private, common)
        floor, others = self._beyond(rest)
        here, apart = self._beyond(m.apart)
        own, all_places = (self._through(m.across - m.apart, by) for by in (self._squares(), self._with_all()))
        return Moments(
            m.mean,
            second + floor,
            self._next(private, common) + floor,
            (total - second) / max(1, self.outputs - 1) + others,
            own + here,
            (all_places - own) / max(1, self.outputs - 1) + apart,
        )

    def _through(self, t: Tensor, by: list[Tensor]) -> Tensor:
        for d, a in zip(self.dims, by, strict=True):
            t = torch.movedim(torch.movedim(t, d, -1) @ a.T, -1, d)
        return t

    def _own(self, private: Tensor, common: Tensor) -> Tensor:
        """Pairs of an output's own places."""
        wide = [a * b for a, b in zip(self.matrices, self.spread, strict=True)]
        return self._through(private, self._squares()) + self._through(common, wide)

    def _squares(self) -> list[Tensor]:
        return [a * a for a in self.matrices]

    def _with_all(self) -> list[Tensor]:
        return [a * a.sum(0, keepdim=True) for a in self.matrices]

    def _all(self, private: Tensor, common: Tensor) -> Tensor:
        """Pairs of an output's places with those of all outputs."""
        wide = [a * b.sum(0, keepdim=True) for a, b in zip(self.matrices, self.spread, strict=True)]
        return self._through(private, self._with_all()) + self._through(common, wide)

    def _next(self, private: Tensor, common: Tensor) -> Tensor:
        """Pairs of adjacent outputs, averaged over the axes along which there are any."""
        axes = [d for d, a in enumerate(self.matrices) if a.shape[0] > 1]
        if not axes:
            return self._own(private, common)
        return torch.stack([self._beside(private, common, axis) for axis in axes]).mean(0)

    def _beside(self, private: Tensor, common: Tensor, axis: int) -> Tensor:
        def products(others: list[Tensor]) -> list[Tensor]:
            both = enumerate(zip(self.matrices, others, strict=True))
            return [_with_next(a, b) if d == axis else a * b for d, (a, b) in both]

        return self._through(private, products(self.matrices)) + self._through(common, products(self.spread))

    def _beyond(self, other: Tensor) -> tuple[Tensor, Tensor]:
        """What distant places share: with an output itself, and with another one (windows that leave the map hold less)."""
        through = self._through(other, self.matrices)
        return through * self.total, through * of_others(self.total, self.roles)


def _decay(sizes: Sequence[int], x: Signal) -> tuple[float, list[Tensor]]:
    """Return c, and cⁿ for each axis; c is lowered where the map is too small to tell neighbours from the rest."""
    m = x.moments
    q, near, elsewhere = (x.average(t) for t in (m.second, m.near, m.elsewhere))
    others, rest, c = prod(sizes) - 1, elsewhere, LEAST_DECAY
    for _ in range(4):  # the mean over all other places holds the near ones
        if q - rest > 1e-9 * q:
            c = min(max((near - rest) / (q - rest), LEAST_DECAY), 0.99)
        while c > LEAST_DECAY and _pairs_alike(_faded(sizes, c), c) > others / 2:
            c = max(c * 0.8, LEAST_DECAY)
        count = _pairs_alike(_faded(sizes, c), c)
        rest = (others * elsewhere - count * near) / max(1.0, others - count)
    return c, _faded(sizes, c)


def _faded(sizes: Sequence[int], c: float) -> list[Tensor]:
    """Return cⁿ for places at distance n along each axis."""
    lines = [torch.arange(n, dtype=torch.float64) for n in sizes]
    return [torch.pow(torch.tensor(c, dtype=torch.float64), (t[:, None] - t).abs()) for t in lines]


def _pairs_alike(alike: list[Tensor], c: float) -> float:
    """Return Σ cⁿ⁻¹ over the other places of a map, averaged over its places."""
    return (prod(float(a.sum()) / a.shape[0] for a in alike) - 1.0) / c


def _with_next(a: Tensor, b: Tensor) -> Tensor:
    """Products of each output's coefficients with b's of its neighbours, averaged over the two."""
    total = torch.zeros_like(a)
    total[:-1] += a[:-1] * b[1:]
    total[1:] += a[1:] * b[:-1]
    count = torch.full((a.shape[0], 1), 2.0, dtype=a.dtype)
    count[0] = count[-1] = 1.0
    return total / count


def written(t: Tensor, shape: Sequence[int], dims: Sequence[int]) -> Tensor:
    """Write out some axes of a lean tensor."""
    t = ranked(t, len(shape))
    return t.expand([shape[d] if d in dims else t.shape[d] for d in range(t.dim())])


def option(value: Any, axis: int, default: Any = None) -> Any:
    """Return an option along one axis: options come as a number, one for all, or one for each."""
    if isinstance(value, (list, tuple)):
        return default if not value else value[axis if len(value) > 1 else 0]
    return default if value is None else value


def _matrix(call: Call, axis: int, size: int, out: int) -> Tensor:
    """The op along one position axis, shape (out, size): its answer to each unit vector."""
    eye = torch.eye(size, dtype=torch.float64).unsqueeze(1)
    line = next(f for name, f in LINES.items() if name in call.op)
    return line(call, axis, eye, out).reshape(size, out).T.contiguous()


def _adaptive(call: Call, axis: int, eye: Tensor, out: int) -> Tensor:
    return torch.stack([F.adaptive_avg_pool1d(row, out) for row in eye])


def _average(call: Call, axis: int, eye: Tensor, out: int) -> Tensor:
    kernel = int(option(call.argument("kernel_size"), axis))
    stride = int(option(call.argument("stride"), axis, kernel))
    padding = int(option(call.argument("padding"), axis, 0))
    ceil, include = bool(call.argument("ceil_mode")), bool(call.argument("count_include_pad"))
    return F.avg_pool1d(eye, kernel, stride, padding, ceil, include)


def _scale(call: Call, axis: int) -> float | None:
    """The scale factor that an interpolation was asked for, if it was."""
    factors = call.argument("scale_factors")
    if factors is None:
        n = spatial_rank(call.op)
        factors = [call.argument(name) for name in ("scales_d", "scales_h", "scales_w")[3 - n :]]
        factors = [call.argument("scales")] if n == 1 and factors[0] is None else factors
    found = option(factors, axis)
    return None if found is None else float(found)


def _nearest(call: Call, axis: int, eye: Tensor, out: int) -> Tensor:
    aten = torch.ops.aten
    op = aten._upsample_nearest_exact1d if "exact" in call.op else aten.upsample_nearest1d
    y: Tensor = op(eye, [out], _scale(call, axis))
    return y


def _interpolated(call: Call, axis: int, eye: Tensor, out: int) -> Tensor:
    align = bool(call.argument("align_corners"))
    aten = torch.ops.aten
    y: Tensor
    if "linear1d" in call.op or "trilinear" in call.op or call.op == "upsample_bilinear2d":
        y = aten.upsample_linear1d(eye, [out], align, _scale(call, axis))
    else:  # these exist in two dimensions only
        plane = eye.unsqueeze(-1).expand(-1, -1, -1, 4)  # one column alone is resized wrongly by some kernels
        y = getattr(aten, call.op)(plane.contiguous(), [out, 4], align, _scale(call, axis), None)[..., 0]
    return y


LINES: dict[str, Line] = {  # the first name that the op's name contains
    "adaptive_avg_pool": _adaptive,
    "avg_pool": _average,
    "nearest": _nearest,
    "upsample_": _interpolated,
}
SMOOTHING: dict[str, Rule] = {
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), smoothed),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"), smoothed),
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"), smoothed),
    **dict.fromkeys(("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"), smoothed),
    **dict.fromkeys(("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"), smoothed),
    **dict.fromkeys(("upsample_bicubic2d", "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa"), smoothed),
}
