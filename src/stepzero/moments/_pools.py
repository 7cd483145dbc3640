"""Rules for ops that mix positions with fixed coefficients, or pick the largest: pooling, resizing, means and sums.

A weighted sum of places with coefficients c has second moment Σc²·(E[x²] - e) + (Σc)²·e, for e = E[x x'] at
another place: what ReLU leaves in common survives averaging, what is private does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import CubicSpline
from torch import Tensor

from stepzero.moments import _pointwise as P
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule, dimensions
from stepzero.moments._signal import Moments, Signal, lean
from stepzero.theory._extremes import expand_maximum
from stepzero.theory._hermite import Expansion, pair

EXACT_WINDOWS = 64  # more different windows than this are interpolated in their correlation, or rounded


def smoothed(call: Call) -> Signal:
    """Average pooling, adaptive pooling, interpolation: a separable matrix along each position axis."""
    x = call.need(call.main)
    rank = len(x.shape)
    n = int(call.op.removesuffix("_aa")[-2])
    dims = range(rank - n, rank)
    matrices = [_matrix(call, i, x.shape[d], call.shape[d]) for i, d in enumerate(dims)]
    return mixed(x, call.shape, dims, matrices, [a * a for a in matrices])


def _matrix(call: Call, axis: int, size: int, out: int) -> Tensor:
    """The op along one position axis, shape (out, size): its answer to each unit vector."""
    eye = torch.eye(size, dtype=torch.float64).unsqueeze(1)
    family = next(name for name in LINES if call.op.startswith(name))
    return LINES[family](call, axis, eye, out).reshape(size, out).T.contiguous()


def _listed(value: Any, axis: int, default: Any = None) -> Any:
    """Return an option along one axis: options come as a number, one for all, or one for each."""
    if isinstance(value, (list, tuple)):
        return default if not value else value[axis if len(value) > 1 else 0]
    return default if value is None else value


def _average_line(call: Call, axis: int, eye: Tensor, out: int) -> Tensor:
    k = _listed(call.argument("kernel_size"), axis)
    stride = _listed(call.argument("stride"), axis, k)
    padding = _listed(call.argument("padding"), axis, 0)
    ceil, include = bool(call.argument("ceil_mode")), bool(call.argument("count_include_pad"))
    return F.avg_pool1d(eye, k, stride, padding, ceil, include)


def _resize_line(call: Call, axis: int, eye: Tensor, out: int) -> Tensor:
    scales = call.argument("scale_factors")
    named = call.argument(("scales_d", "scales_h", "scales_w")[3 - int(call.op.removesuffix("_aa")[-2]) + axis])
    scale = _listed(scales, axis) if scales is not None else named
    name = call.op
    aten = torch.ops.aten
    if "nearest" in name:
        nearest = aten._upsample_nearest_exact1d if "exact" in name else aten.upsample_nearest1d
        return nearest(eye, [out], scale)
    align = bool(call.argument("align_corners"))
    if "bicubic" in name or name.endswith("_aa"):
        return getattr(aten, name)(eye.unsqueeze(-1), [out, 1], align, scale, None)
    return aten.upsample_linear1d(eye, [out], align, scale)


LINES: dict[str, Any] = {
    "adaptive_avg_pool": lambda call, axis, eye, out: F.adaptive_avg_pool1d(eye, out),
    "avg_pool": _average_line,
    "upsample_": _resize_line,
    "_upsample_": _resize_line,
}


def mixed(x: Signal, shape: Sequence[int], dims: Sequence[int], matrices: list[Tensor], squares: list[Tensor]) -> Signal:
    """Return the signal after y = (⊗ A_d) x over position axes."""
    m = Moments(*(_positions(t, x, dims) for t in x.moments))

    def through(t: Tensor, by: list[Tensor]) -> Tensor:
        for d, a in zip(dims, by, strict=True):
            t = torch.movedim(torch.movedim(t, d, -1) @ a.T, -1, d)
        return t

    ones = torch.ones([x.shape[d] if d in set(dims) else 1 for d in range(len(x.shape))], dtype=torch.float64)
    total = through(ones, matrices)

    def square(own: Tensor, other: Tensor) -> Tensor:
        return through(own - other, squares) + through(other, matrices) * total

    def beyond(other: Tensor) -> Tensor:
        return through(other, matrices) * total

    reach = _reach(matrices)
    with torch.no_grad():
        inside = m.near + (m.elsewhere - m.near) * reach
        second, elsewhere = square(m.second, inside), beyond(m.elsewhere)
        apart = elsewhere if m.apart is m.elsewhere else beyond(m.apart)
        moments = Moments(
            through(m.mean, matrices), second, beyond(inside), elsewhere, square(m.across, m.apart), apart
        )
    roles = list(x.roles)
    for d in dims:
        roles[d] = ((shape[d], "position"),) if shape[d] > 1 else ()
    carrier = through(_positions(x.carrier, x, dims), squares)
    return Signal(shape, tuple(roles), moments, carrier)


def _reach(matrices: list[Tensor]) -> float:
    """Share of the map that a window spans: 0 for neighbours only, 1 for the whole map."""
    spans = [int((a != 0).sum(1).max()) for a in matrices]
    window, whole = prod(spans), prod(a.shape[1] for a in matrices)
    return (window - 1) / (whole - 1) if whole > 1 else 1.0


def _positions(t: Tensor, x: Signal, dims: Sequence[int]) -> Tensor:
    """Write out the position axes of a lean tensor."""
    t = t.reshape((1,) * (len(x.shape) - t.dim()) + tuple(t.shape))
    return t.expand([x.shape[d] if d in set(dims) else t.shape[d] for d in range(t.dim())])


def reduced(call: Call) -> Signal:
    """Mean or sum over any axes: places share e, channels share E[x]², inputs share what inputs share."""
    x = call.need(call.main)
    dims = dimensions(call.argument("dim"), len(x.shape))
    keep = bool(call.argument("keepdim"))
    sizes = [x.shape[d] for d in dims]
    c = 1.0 / prod(sizes) if call.op == "mean" else 1.0
    m = Moments(*(t.reshape((1,) * (len(x.shape) - t.dim()) + tuple(t.shape)) for t in x.moments))

    def total(t: Tensor) -> Tensor:
        lead = prod(x.shape[d] for d in dims if t.shape[d] == 1)
        return t.sum(dim=tuple(dims), keepdim=True) * lead

    factors = [f for d in dims for f in x.roles[d]]
    n = {role: prod(k for k, r in factors if r == role) for role in ("batch", "channel", "position")}
    size = prod(sizes)
    share = n["position"] * n["batch"]
    alike = c * c * size  # Σ over the partner, for equal partners
    with torch.no_grad():
        mean = c * total(m.mean)

        def pairs(own: Tensor, other: Tensor, third: Tensor, fourth: Tensor) -> Tensor:
            same = (own + (n["position"] - 1) * other + (n["batch"] - 1) * third
                    + (n["position"] - 1) * (n["batch"] - 1) * fourth) / share
            across_channels = m.mean * total(m.mean) / size
            mix = same / n["channel"] + (1 - 1 / n["channel"]) * across_channels
            return total(mix) * alike

        second = pairs(m.second, m.elsewhere, m.across, m.apart)
        near = pairs(m.near, m.near, m.apart, m.apart) if n["position"] == 1 else second
        elsewhere = pairs(m.elsewhere, m.elsewhere, m.apart, m.apart)
        across = pairs(m.across, m.apart, m.across, m.apart)
        apart = pairs(m.apart, m.apart, m.apart, m.apart)
    carrier_in = x.carrier.reshape((1,) * (len(x.shape) - x.carrier.dim()) + tuple(x.carrier.shape))
    carrier = total(carrier_in) * c * c
    roles = [() if d in dims else axis for d, axis in enumerate(x.roles)]

    def finish(t: Tensor) -> Tensor:
        return t if keep else t.squeeze(dims)

    if not keep:
        roles = [axis for d, axis in enumerate(roles) if d not in dims]
    moments = Moments(*(finish(t) for t in (mean, second, near, elsewhere, across, apart)))
    return Signal(call.shape, tuple(roles), moments, finish(carrier))


def max_pooled(call: Call) -> Signal | tuple[Signal, ...]:
    """The largest of a window, jointly with the pending activation: P(max > 0) is 0.94, not ½, for 2×2 after ReLU."""
    x = call.need(call.main)
    root, phi = P.root_of(x)
    rank = len(root.shape)
    kernel, dims = _window(call, rank)
    average, members = _window_average(call, kernel, dims, root.shape)
    m = Moments(*(_positions(t, root, dims) for t in root.moments))
    with torch.no_grad():
        pooled = m.each(average)
        k = members()
        window = prod(kernel)
        whole = prod(root.shape[d] for d in dims)
        reach = (window - 1) / (whole - 1) if whole > 1 else 1.0
        e, ratio_elsewhere, ratio_across, ratio_apart = _expand_windows(phi, pooled, k, reach)
        b = torch.from_numpy(e.coefficients)
        coefficients = b.numpy()
        places = tuple(d for d in dims if b.shape[d] > 1)
        typical = coefficients.mean(axis=places, keepdims=True) if places else coefficients
        near = torch.from_numpy(pair(coefficients, coefficients, np.ones(1)))
        elsewhere = torch.from_numpy(pair(coefficients, typical, ratio_elsewhere))
        across = torch.from_numpy(pair(coefficients, coefficients, ratio_across))
        apart = torch.from_numpy(pair(coefficients, typical, ratio_apart))
        mean = torch.from_numpy(np.ascontiguousarray(coefficients[..., 0]))
        second = torch.from_numpy(e.second)
        moments = Moments(mean, second, near, elsewhere, across, apart)
    carrier = average(_positions(root.carrier, root, dims), adjoint=True) * torch.from_numpy(e.slope_second)
    roles = list(root.roles)
    for d in dims:
        roles[d] = ((call.shape[d], "position"),) if call.shape[d] > 1 else ()
    y = Signal(call.shape, tuple(roles), moments, carrier)
    return y if len(call.node.outputs) == 1 else (y, *[None] * (len(call.node.outputs) - 1))  # type: ignore[return-value]


def _window(call: Call, rank: int) -> tuple[list[int], list[int]]:
    """Return the kernel and the pooled axes."""
    kernel = call.argument("kernel_size")
    size = kernel if isinstance(kernel, (list, tuple)) else [kernel]
    n = int(call.op.split("max_pool")[1][0])
    return [int(k) for k in (size * n if len(size) == 1 else size)], list(range(rank - n, rank))


def _window_average(call: Call, kernel: list[int], dims: list[int], shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return a function that averages over each window's valid members, and one that counts them."""
    n = len(dims)
    conv = (F.conv1d, F.conv2d, F.conv3d)[n - 1]

    def listed(name: str, default: int | None) -> list[int]:
        value = call.argument(name)
        value = [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
        return [int(v) for v in (value * n if len(value) == 1 else value)] or ([default] * n if default is not None else kernel)

    stride, padding, dilation = listed("stride", None), listed("padding", 0), listed("dilation", 1)
    ones = torch.ones((1, 1, *kernel), dtype=torch.float64)
    out = [call.shape[d] for d in dims]

    def total(t: Tensor) -> Tensor:
        flat = t.reshape(-1, 1, *t.shape[dims[0] :])
        extra = []  # ceil_mode: windows that run over the right border
        for size, k, s, p, d, o in zip(flat.shape[2:], kernel, stride, padding, dilation, out, strict=True):
            extra.append((p, max(p, (o - 1) * s + d * (k - 1) + 1 - size - p)))
        flat = F.pad(flat, [v for lr in reversed(extra) for v in lr])
        y = conv(flat, ones, stride=stride, dilation=dilation)
        y = y[(slice(None), slice(None), *(slice(0, o) for o in out))]
        return y.reshape(*t.shape[: dims[0]], *out)

    members = total(torch.ones([1] * dims[0] + [shape[d] for d in dims], dtype=torch.float64))

    def average(t: Tensor, adjoint: bool = False) -> Tensor:
        return total(t) / members

    return average, lambda: members


def _expand_windows(
    phi: P.Pointwise, m: Moments, members: Tensor, reach: float
) -> tuple[Expansion, Any, Any, Any]:
    """Expand φ(max) for each different window; correlations with other windows come as shares of the window's own."""
    variance = (m.second - m.mean**2).clamp_min(0.0)
    tensors = torch.broadcast_tensors(m.mean, variance.sqrt(), members, m.near, m.elsewhere, m.across, m.apart)
    mean, sd, k, near, e, a, d = (t.numpy() for t in tensors)
    safe = np.where(sd > 0, sd**2, 1.0)
    rho_n, rho_e, rho_a, rho_d = (np.clip((t - mean**2) / safe, 0.0, 1.0) for t in (near, e, a, d))
    rho = rho_n + (rho_e - rho_n) * reach
    columns = np.stack([mean.ravel(), sd.ravel(), k.ravel(), rho.ravel()])
    flat = _expand_columns(phi, columns)
    shape = mean.shape
    whole = Expansion(
        flat.coefficients.reshape(*shape, -1), flat.second.reshape(shape), flat.slope_second.reshape(shape)
    )
    base = np.where(rho > 1e-9, rho, 1.0)
    return (whole, *(np.clip(r / base, 0, 1) for r in (rho_e, rho_a, rho_d)))


def _expand_columns(phi: P.Pointwise, columns: np.ndarray[Any, Any]) -> Expansion:
    """Expand at unique rows; homogeneous activations of centred signals need one curve in ρ for each count."""
    mean, sd, k, rho = columns
    if _homogeneous(phi) and not np.any(np.abs(mean) > 1e-12 * sd) and rho.size > EXACT_WINDOWS:
        return _curves(phi, sd, k, rho)
    step = 2e-3 if rho.size > EXACT_WINDOWS else 0.0
    keys = np.stack([mean, sd, k, rho], axis=1)
    if step:
        scale = np.exp(np.round(np.log(np.maximum(sd, 1e-150)) / step) * step)
        keys = np.stack([np.round(mean / scale / step) * step * scale, scale, k, np.round(rho / step) * step], axis=1)
    unique, back = np.unique(keys, axis=0, return_inverse=True)
    e = expand_maximum(phi, phi.kinks, *np.ascontiguousarray(unique.T[[0, 1, 3, 2]]))
    back = back.ravel()
    return Expansion(e.coefficients[back], e.second[back], e.slope_second[back])


def _curves(phi: P.Pointwise, sd: Any, k: Any, rho: Any) -> Expansion:
    """Interpolate in ρ, exactly scaled by the standard deviation."""
    n = rho.size
    coefficients, second, slope = np.empty((n, 25)), np.empty(n), np.empty(n)
    for count in np.unique(k):
        rows = k == count
        low, high = float(rho[rows].min()), float(rho[rows].max())
        grid = np.linspace(low, high, 17) if high - low > 1e-9 else np.array([low, low + 1e-9])
        one = np.ones_like(grid)
        e = expand_maximum(phi, phi.kinks, 0 * one, one, grid, count * one)
        stacked = np.concatenate([e.coefficients, e.second[:, None], e.slope_second[:, None]], axis=1)
        at = CubicSpline(grid, stacked)(rho[rows]) if grid.size > 2 else np.broadcast_to(stacked[0], (rows.sum(), 27))
        coefficients[rows] = at[:, :-2] * sd[rows, None]
        second[rows], slope[rows] = at[:, -2] * sd[rows] ** 2, at[:, -1]
    return Expansion(coefficients, second, slope)


def _homogeneous(phi: P.Pointwise) -> bool:
    """Say whether φ(s·x) = s·φ(x) for s > 0."""
    linear = phi.linear
    return linear is not None and linear.intercept == 0.0 and all(kink == 0.0 for kink in linear.kinks)


POOLS: dict[str, Rule] = {
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), smoothed),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"), smoothed),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), max_pooled),
    **dict.fromkeys(("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices"), max_pooled),
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"), smoothed),
    **dict.fromkeys(("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"), smoothed),
    **dict.fromkeys(("_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "_upsample_nearest_exact2d"), smoothed),
    "mean": reduced,
    "sum": reduced,
}
__all__ = ["POOLS", "lean"]
