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
from stepzero.moments._signal import Moments, Signal, ranked

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
    return Signal(call.shape, R.replaced(x.roles, call.shape, dims, "position"), m, tangent)


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
    """y = (⊗ A_d) x over position axes, on moments."""

    def __init__(self, x: Signal, dims: Sequence[int], matrices: list[Tensor]) -> None:
        self.shape, self.dims = x.shape, tuple(dims)
        self.matrices, self.squares = matrices, [a * a for a in matrices]
        self.neighbours = [_with_next(a) for a in matrices]
        self.reach = _reach(matrices)
        ones = torch.ones([x.shape[d] if d in self.dims else 1 for d in range(len(x.shape))], dtype=torch.float64)
        self.total = self._through(ones, matrices)

    def __call__(self, m: Moments) -> Moments:
        """Return the output's moments; pairs inside a window lie between neighbours and any two places."""
        m = m.each(lambda t: written(t, self.shape, self.dims))
        inside = m.near + (m.elsewhere - m.near) * self.reach
        elsewhere = self._beyond(m.elsewhere)
        return Moments(
            self._through(m.mean, self.matrices),
            self._square(m.second, inside),
            self._next(m.second, inside),
            elsewhere,
            self._square(m.across, m.apart),
            elsewhere if m.apart is m.elsewhere else self._beyond(m.apart),
        )

    def _through(self, t: Tensor, by: list[Tensor]) -> Tensor:
        for d, a in zip(self.dims, by, strict=True):
            t = torch.movedim(torch.movedim(t, d, -1) @ a.T, -1, d)
        return t

    def _square(self, own: Tensor, other: Tensor) -> Tensor:
        return self._through(own - other, self.squares) + self._beyond(other)

    def _next(self, own: Tensor, other: Tensor) -> Tensor:
        """Pairs of adjacent outputs: what their coefficients have in common meets the same place."""
        private = own - other
        axes = [d for d, a in enumerate(self.neighbours) if a.shape[0] > 1]
        if not axes:
            return self._square(own, other)
        swapped = ([*self.squares[:d], self.neighbours[d], *self.squares[d + 1 :]] for d in axes)
        common = torch.stack([self._through(private, by) for by in swapped]).mean(0)
        return common + self._beyond(other)

    def _beyond(self, other: Tensor) -> Tensor:
        return self._through(other, self.matrices) * self.total


def _with_next(a: Tensor) -> Tensor:
    """Products of each output's coefficients with those of its neighbours, averaged over the two."""
    if a.shape[0] == 1:
        return a * a
    beside = a[1:] * a[:-1]
    total = torch.cat([beside, torch.zeros_like(a[:1])]) + torch.cat([torch.zeros_like(a[:1]), beside])
    count = torch.full((a.shape[0], 1), 2.0, dtype=a.dtype)
    count[0] = count[-1] = 1.0
    return total / count


def _reach(matrices: list[Tensor]) -> float:
    """Share of the map that a window spans: 0 for neighbours only, 1 for the whole map."""
    spans = [int((a != 0).sum(1).max()) for a in matrices]
    window, whole = prod(spans), prod(a.shape[1] for a in matrices)
    return (window - 1) / (whole - 1) if whole > 1 else 1.0


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
