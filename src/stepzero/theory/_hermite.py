"""Hermite expansions: how a pointwise function maps the moments and correlations of a Gaussian.

With x = m + s·z and x' = m' + s'·z', corr(z, z') = ρ, and a_n = E[φ(m + s·z) h_n(z)] for the normalised
Hermite polynomials h_n, Mehler's formula gives E[φ(x) φ(x')] = Σ_n a_n a'_n ρⁿ: one row of coefficients
answers for every correlation (Daniely, Frostig & Singer 2016, §4 "dual activation").

An x that is no Gaussian enters by the first terms of its Gram-Charlier series: the density of z is
n(z)·(1 + γ/6·He₃(z) + κ/24·He₄(z)) for skewness γ and excess kurtosis κ (Kendall & Stuart, The Advanced Theory of
Statistics, vol. 1, §6.17). E[φ], E[φ²], E[φ'²] and E[φ'] take it over (the last γ alone); coefficients from the
second on, which matter at high correlations only, are those of the Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from stepzero.theory._panels import panels

Array = NDArray[np.float64]
ValueAndSlope = Callable[[Array], tuple[Array, Array]]

ORDER = 24  # coefficients beyond are gathered in the last one
SQRT6 = 6.0**0.5  # He₃ = √6·h_3
SQRT24 = 24.0**0.5  # He₄ = √24·h_4
REACH = 9.0  # standard deviations; the Gaussian mass beyond is 2e-19


@dataclass(frozen=True, slots=True)
class Expansion:
    """A pointwise function of N(mean, sd²), one row for each (mean, sd)."""

    coefficients: Array  # (rows, ORDER + 1); the last holds sqrt of what the others leave of the second moment
    second: Array  # (rows,) E[φ²]
    slope_second: Array  # (rows,) E[φ'²]
    slope_coefficients: Array | None = None  # of φ', where they do not follow from φ's: where φ jumps

    @property
    def mean(self) -> Array:
        """E[φ], shape (rows,)."""
        return self.coefficients[:, 0]

    def rows(self, index: NDArray[np.intp]) -> Expansion:
        """Return some of the rows, in this order."""
        slopes = None if self.slope_coefficients is None else self.slope_coefficients[index]
        return Expansion(self.coefficients[index], self.second[index], self.slope_second[index], slopes)

    def slopes(self, sd: Array) -> Array:
        """Return the coefficients of φ', from h_n' = sqrt(n)·h_{n-1}; like the others, the last closes E[φ'²]."""
        if self.slope_coefficients is not None:
            return self.slope_coefficients
        n = np.arange(1, ORDER + 1)
        safe = np.where(sd > 0.0, sd, 1.0)[:, None]
        d = np.concatenate([np.sqrt(n) * self.coefficients[:, 1:] / safe, np.zeros((sd.size, 1))], axis=1)
        d[:, -2] = 0.0  # the last coefficient of φ is a rest, with no derivative
        d[sd <= 0.0] = 0.0
        d[sd <= 0.0, 0] = np.sqrt(self.slope_second[sd <= 0.0])
        return _closed(d, self.slope_second, self.slope_second).coefficients


@dataclass(frozen=True, slots=True)
class PiecewiseLinear:
    """φ(x) = intercept + slope·x + Σ_j bends_j · relu(x - kinks_j): every moment in closed form."""

    intercept: float
    slope: float
    kinks: tuple[float, ...] = ()
    bends: tuple[float, ...] = ()

    def __call__(self, x: Array) -> Array:
        """Evaluate φ."""
        y = self.intercept + self.slope * x
        for kink, bend in zip(self.kinks, self.bends, strict=True):
            y = y + bend * np.maximum(x - kink, 0.0)
        return y

    def expand(self, mean: Array, sd: Array, skewness: float = 0.0, kurtosis: float = 0.0) -> Expansion:
        """Return the expansion at each (mean, sd), in closed form."""
        a = np.zeros((mean.size, ORDER + 1))
        a[:, 0] = self.intercept + self.slope * mean
        a[:, 1] = self.slope * sd
        for kink, bend in zip(self.kinks, self.bends, strict=True):
            a += bend * _relu_coefficients(mean - kink, sd)
        second, slope_second = self._seconds(mean, sd, skewness, kurtosis)
        return _closed(_shaped(a, skewness, kurtosis), second, slope_second)

    def of_affine(self, scale: float, shift: float) -> PiecewiseLinear:
        """Return x ↦ φ(scale·x + shift)."""
        if scale == 0.0:
            return PiecewiseLinear(float(self(np.array([shift]))[0]), 0.0)
        intercept, slope = self.intercept + self.slope * shift, self.slope * scale
        for kink, bend in zip(self.kinks, self.bends, strict=True):
            if scale < 0.0:  # relu(-u) = relu(u) - u
                slope, intercept = slope + bend * scale, intercept + bend * (shift - kink)
        kinks = tuple((kink - shift) / scale for kink in self.kinks)
        return PiecewiseLinear(intercept, slope, kinks, tuple(bend * abs(scale) for bend in self.bends))

    def _seconds(self, mean: Array, sd: Array, skewness: float, kurtosis: float) -> tuple[Array, Array]:
        """E[φ²] and E[φ'²] as sums over the linear pieces."""
        order = np.argsort(self.kinks)
        kinks = np.array(self.kinks)[order]
        slopes = self.slope + np.concatenate([[0.0], np.cumsum(np.array(self.bends)[order])])
        starts = self.intercept - np.concatenate([[0.0], np.cumsum(np.array(self.bends)[order] * kinks)])
        bounds = np.concatenate([[-np.inf], kinks, [np.inf]])
        below = [_partial_moments(bound, mean, sd, skewness, kurtosis) for bound in bounds]
        second, slope_second = np.zeros_like(mean), np.zeros_like(mean)
        for left, right, slope, start in zip(below[:-1], below[1:], slopes, starts, strict=True):
            p0, p1, p2 = (r - q for q, r in zip(left, right, strict=True))
            second += slope**2 * p2 + 2.0 * slope * start * p1 + start**2 * p0
            slope_second += slope**2 * p0
        return second, slope_second


def expand(
    phi: ValueAndSlope,
    kinks: tuple[float, ...],
    mean: Array,
    sd: Array,
    skewness: float = 0.0,
    kurtosis: float = 0.0,
) -> Expansion:
    """Return the expansion of any pointwise function by quadrature on panels cut at its kinks.

    Args:
        phi: Returns value and derivative at an array of points.
        kinks: Where the function or its derivative jumps, in units of x.
        mean: Shape (rows,).
        sd: Standard deviations, shape (rows,), ≥ 0.
        skewness: Third central moment over sd³, the same for all rows.
        kurtosis: Fourth central moment over sd⁴, less 3.

    A row whose mean is positive and whose Gaussian reaches where φ is not defined is taken as positive (lognormal).
    """
    z, value, slope, mass = quadrature(phi, kinks, mean, sd)
    h = _polynomials(z, ORDER)
    true = mass * (1.0 + skewness / SQRT6 * h[3] + kurtosis / SQRT24 * h[4])
    second, slope_second = np.sum(true * value**2, axis=1), np.sum(true * slope**2, axis=1)
    e = _closed(_shaped(_project(mass * value, h), skewness, kurtosis), second, slope_second)
    if not kinks:
        return e
    d = _project(mass * slope, h)
    d[:, 0] += skewness / SQRT6 * d[:, 3] + kurtosis / SQRT24 * d[:, 4]
    return replace(e, slope_coefficients=_closed(d, slope_second, slope_second).coefficients)


def quadrature(
    phi: ValueAndSlope, kinks: tuple[float, ...], mean: Array, sd: Array
) -> tuple[Array, Array, Array, Array]:
    """Return nodes in units of sd, value and slope of φ there, and the Gaussian mass of each, all of shape (rows, nodes)."""
    safe = np.maximum(sd, 1e-300)
    corners = np.array(sorted({*kinks, *_scale_cuts(sd)}))
    cuts = (corners[None, :] - mean[:, None]) / safe[:, None]
    z, w = panels(cuts, -REACH, REACH)
    value, slope = phi(mean[:, None] + sd[:, None] * z)
    undefined = ~np.isfinite(value).all(axis=1) & (mean > 0.0)
    if undefined.any():
        value[undefined], slope[undefined] = _of_positive(phi, mean[undefined], sd[undefined], z[undefined])
    mass = w * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
    return z, value, slope, mass


def _of_positive(phi: ValueAndSlope, mean: Array, sd: Array, z: Array) -> tuple[Array, Array]:
    """Return value and slope where φ is defined for positive arguments only (rsqrt of a mean square).

    The argument is taken as lognormal with the same mean and variance: E[1/v] of a mean square of n squares, which is
    n/(n - 2) of 1/E[v], comes out as 1 + 2/n.
    """
    s = np.sqrt(np.log1p((sd / mean) ** 2))[:, None]
    x = np.exp(np.log(mean)[:, None] - s**2 / 2.0 + s * z)
    value, slope = phi(x)
    return value, slope * s * x / sd[:, None]


def _project(weighted: Array, polynomials: list[Array]) -> Array:
    """Return the coefficients of a function, given its values times the quadrature weights."""
    return np.stack([np.sum(weighted * h, axis=1) for h in polynomials], axis=1)


def pair(a: Array, b: Array, rho: Array) -> Array:
    """Return Σ_n a_n b_n ρⁿ along the last axis (Mehler's formula), by Horner's rule."""
    total = np.zeros(np.broadcast_shapes(a.shape[:-1], b.shape[:-1], rho.shape))
    for n in range(a.shape[-1] - 1, -1, -1):
        total *= rho
        total += a[..., n] * b[..., n]
    return total


def power_sum(terms: Array, rho: Array) -> Array:
    """Return Σ_n terms[n]·ρⁿ along the first axis, by Horner's rule."""
    total = np.array(np.broadcast_to(terms[-1], np.broadcast_shapes(terms.shape[1:], rho.shape)))
    for term in terms[-2::-1]:
        total *= rho
        total += term
    return total


def bend_of(terms: Array, rho: Array) -> Array:
    """Return ½ d²/dρ² of `power_sum`: what E[φ φ'] gains where ρ itself scatters, per unit of its variance."""
    n = np.arange(2.0, len(terms))
    return power_sum((terms[2:].T * (n * (n - 1.0) / 2.0)).T, rho)


def incline(a: Array, b: Array, rho: Array) -> Array:
    """Return d/dρ of `pair`: of slopes, sd²·E[φ'' φ'']."""
    root = np.sqrt(np.arange(1.0, a.shape[-1]))
    return pair(a[..., 1:] * root, b[..., 1:] * root, rho)


def _scale_cuts(sd: Array) -> tuple[float, ...]:
    """Cuts at the activation's own scale, needed once the Gaussian is much wider than it."""
    return (-16.0, -4.0, -1.0, 0.0, 1.0, 4.0, 16.0) if sd.size and float(sd.max()) > 2.0 else ()


def _closed(a: Array, second: Array, slope_second: Array) -> Expansion:
    """Put what the kept coefficients leave of E[φ²] into the last one, so that ρ = 1 is exact."""
    rest = second - np.sum(a[:, :-1] ** 2, axis=1)
    a[:, -1] = np.sqrt(np.maximum(rest, 0.0))
    return Expansion(a, second, slope_second)


def _shaped(a: Array, skewness: float, kurtosis: float) -> Array:
    """Correct E[φ] = a_0 and s·E[φ'] = a_1 for an argument that is no Gaussian."""
    if skewness:
        a[:, 0] += skewness / SQRT6 * a[:, 3]
        a[:, 1] += skewness * SQRT6 / 3.0 * a[:, 4]
    if kurtosis:
        a[:, 0] += kurtosis / SQRT24 * a[:, 4]
    return a


def _polynomials(z: Array, order: int) -> list[Array]:
    """h_0 … h_order, the Hermite polynomials of unit norm under N(0, 1)."""
    h = [np.ones_like(z), z]
    for n in range(1, order):
        h.append((z * h[n] - np.sqrt(n) * h[n - 1]) / np.sqrt(n + 1.0))
    return h


def _relu_coefficients(mean: Array, sd: Array) -> Array:
    """a_n of relu: a_0 = mΦ + sφ, a_1 = sΦ, a_n = sφ(t)·h_{n-2}(-t)/sqrt(n(n-1)), at t = m/s."""
    t = np.where(sd > 0.0, mean / np.where(sd > 0.0, sd, 1.0), np.sign(mean) * 40.0)
    bell = np.exp(-0.5 * t * t) / np.sqrt(2.0 * np.pi)
    a = np.empty((mean.size, ORDER + 1))
    a[:, 0] = mean * ndtr(t) + sd * bell
    a[:, 1] = sd * ndtr(t)
    h = _polynomials(-np.clip(t, -12.0, 12.0), ORDER)
    for n in range(2, ORDER + 1):
        a[:, n] = sd * bell * h[n - 2] / np.sqrt(n * (n - 1.0))
    return a


def _partial_moments(
    bound: float, mean: Array, sd: Array, skewness: float, kurtosis: float
) -> tuple[Array, Array, Array]:
    """E[1], E[x] and E[x²] over x < bound, for x of this mean, sd, skewness and kurtosis."""
    if np.isinf(bound):
        full = float(bound > 0)
        return np.full_like(mean, full), full * mean, full * (mean**2 + sd**2)
    t = np.where(sd > 0.0, (bound - mean) / np.where(sd > 0.0, sd, 1.0), np.sign(bound - mean) * 40.0)
    bell = np.exp(-0.5 * t * t) / np.sqrt(2.0 * np.pi)
    p0 = ndtr(t)
    p1, p2 = mean * p0 - sd * bell, (mean**2 + sd**2) * p0 - sd * (mean + bound) * bell
    he2, he3, he4 = t * t - 1.0, t**3 - 3.0 * t, t**4 - 6.0 * t * t + 3.0
    he5 = t**5 - 10.0 * t**3 + 15.0 * t
    terms = (  # -∫ z^k He_n(z) n(z) dz from -∞ to t, over n(t), for k = 0, 1, 2
        (skewness / 6.0, he2, he3 + 3.0 * t, he4 + 7.0 * he2 + 6.0),
        (kurtosis / 24.0, he3, he4 + 4.0 * he2, he5 + 9.0 * he3 + 12.0 * t),
    )
    for share, k0, k1, k2 in terms:
        if share:
            c = -share * bell
            p0, p1 = p0 + c * k0, p1 + c * (mean * k0 + sd * k1)
            p2 = p2 + c * (mean**2 * k0 + 2.0 * mean * sd * k1 + sd**2 * k2)
    return p0, p1, p2
