"""Hermite expansions over a map: at different arguments only, scaled where the function allows it, interpolated where many differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepzero.theory._hermite import ORDER, Expansion, PiecewiseLinear

if TYPE_CHECKING:
    from stepzero.moments._pointwise import Pointwise

Array = NDArray[np.float64]

FEW = 64  # rows up to this number are expanded one by one
EXACT_ROWS = 1500  # beyond, (mean, sd) is rounded before the quadrature where it cannot be interpolated
ROUNDING = 2e-4  # relative in sd, in units of sd for the mean
NODES = (17, 13)  # Chebyshev nodes for one variable, and for each of two
FEWER = ((0.02, 5), (0.2, 9), (1.0, 13))  # half the range of each of two variables, and nodes that are tried first
POSITIVE = 4.0  # standard deviations from 0, beyond which a mean is told by its logarithm, and sd by their ratio
PIECE = 4096  # points that are interpolated at once
ACCURATE = 1e-8  # largest error of an interpolant between its nodes, relative to the largest value


def expand_unique(phi: Pointwise, mean: Array, sd: Array, skewness: float = 0.0, kurtosis: float = 0.0) -> Expansion:
    """Expand at each (mean, sd) of a map, given as flat arrays.

    A homogeneous φ (ReLU) of centred signals is scaled from one row. Many different rows are interpolated by Chebyshev
    polynomials in (mean, log sd) or their logarithms, to 1e-8 as checked between the nodes; where that fails, (mean, sd) is rounded to 2e-4.
    """
    if mean.size <= 4:
        return phi.expand(mean, sd, skewness, kurtosis)
    if sd.min() > 0.0 and _homogeneous(phi.linear) and not mean.any():
        return _scaled(phi.expand(np.zeros(1), np.ones(1), skewness, kurtosis), sd)
    if mean.size > FEW:
        found = _interpolated(lambda m, s: phi.expand(m, s, skewness, kurtosis), mean, sd)
        if found is not None:
            return found
    keys, back = np.unique(mean + 1j * sd, return_inverse=True)
    if keys.size > EXACT_ROWS and phi.linear is None:
        keys, back = _rounded(mean, sd)
    rows = phi.expand(np.ascontiguousarray(keys.real), np.ascontiguousarray(keys.imag), skewness, kurtosis)
    return _expansion(_table(rows)[:, back], slopes=rows.slope_coefficients is not None)


def _homogeneous(linear: PiecewiseLinear | None) -> bool:
    """Say whether φ(s·x) = s·φ(x) for s > 0."""
    return linear is not None and linear.intercept == 0.0 and not any(linear.kinks)


def _scaled(unit: Expansion, sd: Array) -> Expansion:
    """Return the rows of a homogeneous function from that of N(0, 1)."""
    slopes = np.broadcast_to(unit.slopes(np.ones(1)), (sd.size, unit.coefficients.shape[1]))
    second, slope_second = unit.second * sd**2, np.full(sd.shape, unit.slope_second[0])
    return Expansion((unit.coefficients.T * sd).T, second, slope_second, slopes)


def _interpolated(expand: Callable[[Array, Array], Expansion], mean: Array, sd: Array) -> Expansion | None:
    """Expand at Chebyshev nodes and interpolate; None where some sd are 0, nodes would be many, or the error is too large."""
    if sd.min() <= 0.0:
        return None
    if (mean > POSITIVE * sd).all():
        return _by_nodes(lambda x, y: expand(np.exp(x), np.exp(x + y)), np.log(mean), np.log(sd / mean), 1.0)
    return _by_nodes(lambda x, y: expand(x, np.exp(y)), mean, np.log(sd), float(sd.min()))


def _by_nodes(expand: Callable[[Array, Array], Expansion], x: Array, y: Array, unit: float) -> Expansion | None:
    """Interpolate in two variables, with few nodes first where neither moves far; x counts in a unit."""
    spans = _Span.of(x), _Span.of(y)
    moving = [span.half > 0.0 for span in spans]
    usual = [NODES[sum(moving) - 1] if moves else 1 for moves in moving]
    halves = spans[0].half / unit, spans[1].half
    fewer = [next((n for most, n in FEWER if half <= most), 0) for half in halves] if all(moving) else usual
    for sizes in (fewer, usual) if all(fewer) and fewer != usual else (usual,):
        if x.size >= 2 * sizes[0] * sizes[1]:
            found = _on_grid(expand, np.stack([x, y]), spans, sizes)
            if found is not None:
                return found
    return None


def _on_grid(
    expand: Callable[[Array, Array], Expansion], points: Array, spans: Sequence[_Span], sizes: Sequence[int]
) -> Expansion | None:
    angles = zip(*(_angles(n) for n in sizes), strict=True)  # of nodes, and of checks between them
    grid = [np.cos(np.stack([a.ravel() for a in np.meshgrid(*both, indexing="ij")])) for both in angles]
    at = np.concatenate(grid, axis=1)
    rows = expand(spans[0].value(at[0]), spans[1].value(at[1]))
    table, slopes, count = _table(rows), rows.slope_coefficients is not None, grid[0].shape[1]
    weights = np.kron(_transform(sizes[0]), _transform(sizes[1]))
    polynomials = table[:, :count] @ weights
    error = np.abs(polynomials @ _basis(grid[1], sizes) - table[:, count:]) / _scales(table[:, count:], slopes)
    if not error.max() < ACCURATE:
        return None
    x = np.stack([span.place(v) for span, v in zip(spans, points, strict=True)])
    pieces = [polynomials @ _basis(x[:, i : i + PIECE], sizes) for i in range(0, x.shape[1], PIECE)]
    return _expansion(np.concatenate(pieces, axis=1), slopes=slopes)


class _Span(NamedTuple):
    """The range of a variable; one that hardly varies is a point."""

    centre: float
    half: float

    @classmethod
    def of(cls, v: Array) -> _Span:
        """Return the range of an array."""
        low, high = float(v.min()), float(v.max())
        half = (high - low) / 2
        return cls((high + low) / 2, half if half > 1e-13 * max(1.0, abs(high)) else 0.0)

    def value(self, x: Array) -> Array:
        """Return the variable at a place of [-1, 1]."""
        return self.centre + self.half * x

    def place(self, v: Array) -> Array:
        """Return the place of a value in [-1, 1]."""
        return np.asarray((v - self.centre) / self.half if self.half else np.zeros_like(v))


def _angles(n: int) -> tuple[Array, Array]:
    """The angles of n Chebyshev nodes, and those midway."""
    nodes = (np.arange(n) + 0.5) * np.pi / n
    return nodes, (nodes[1:] + nodes[:-1]) / 2 if n > 1 else nodes


def _transform(n: int) -> Array:
    """Values at n Chebyshev nodes → coefficients of the polynomials, shape (values, coefficients)."""
    order = np.arange(n)
    return np.asarray(np.cos(np.outer(_angles(n)[0], order)) * np.where(order, 2.0, 1.0) / n)


def _basis(x: Array, sizes: Sequence[int]) -> Array:
    """Products of Chebyshev polynomials at points of shape (2, n), one row for each pair of orders."""
    first, second = (_polynomials(v, n) for v, n in zip(x, sizes, strict=True))
    rows: Array = (first[:, None] * second[None]).reshape(-1, x.shape[1])
    return rows


def _polynomials(x: Array, n: int) -> Array:
    t = np.ones((n, x.size))
    if n > 1:
        t[1] = x
    for i in range(2, n):
        np.multiply(t[i - 1], 2.0 * x, out=t[i])
        t[i] -= t[i - 2]
    return t


def _table(e: Expansion) -> Array:
    """Everything smooth about an expansion, one column for each row of it: last coefficients stand as squares."""
    parts = [e.coefficients.T, e.second[None], e.slope_second[None]]
    if e.slope_coefficients is not None:
        parts.append(e.slope_coefficients.T)
    table = np.concatenate(parts)
    table[ORDER] **= 2
    if e.slope_coefficients is not None:
        table[-1] **= 2
    return table


def _expansion(table: Array, *, slopes: bool) -> Expansion:
    """The expansion that a table describes; its coefficients lie order by order, as sums over orders read them."""
    table[ORDER] = np.sqrt(np.maximum(table[ORDER], 0.0))
    if slopes:
        table[-1] = np.sqrt(np.maximum(table[-1], 0.0))
    own, derivative = table[: ORDER + 1].T, table[ORDER + 3 :].T if slopes else None
    return Expansion(own, table[ORDER + 1], table[ORDER + 2], derivative)


def _scales(table: Array, slopes: bool) -> Array:
    """What an error in each row of a table is measured by: the second moment there, or its root."""
    second, slope = table[ORDER + 1], table[ORDER + 2]
    scales = [np.sqrt(second)] * ORDER + [second, second, slope]
    scales += [np.sqrt(slope)] * ORDER + [slope] if slopes else []
    return np.asarray(np.maximum(np.stack(scales), 1e-300))


def _rounded(mean: Array, sd: Array) -> tuple[NDArray[np.complex128], NDArray[np.intp]]:
    """Round sd on a logarithmic grid and the mean on a grid of that sd."""
    level = np.round(np.log(np.maximum(sd, 1e-150)) / ROUNDING)
    coarse = np.exp(level * ROUNDING) * (sd > 0)
    shift = np.where(sd > 0, np.round(mean / np.maximum(coarse, 1e-150) / ROUNDING) * ROUNDING * coarse, mean)
    keys, back = np.unique(shift + 1j * coarse, return_inverse=True)
    return keys, back
