"""Gauss–Legendre points, and the matrices that interpolate and differentiate through them.

NumPy has them in `numpy.polynomial`, whose import alone takes as long as everything that `stepzero.gain` does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def rule(count: int) -> tuple[Array, Array]:
    """Return points and weights on [-1, 1] that integrate polynomials up to the degree 2·count − 1 exactly.

    Eigenvalues of the Jacobi matrix (Golub & Welsch 1969), then a step of Newton's method.
    """
    n = np.arange(1.0, count)
    beside = n / np.sqrt(4 * n**2 - 1)
    x = np.linalg.eigvalsh(np.diag(beside, 1) + np.diag(beside, -1))
    for _ in range(2):
        value, slope = _polynomial(x, count)
        x = x - value / slope
    x = (x - x[::-1]) / 2  # symmetric to the last digit
    return x, 2 / ((1 - x**2) * _polynomial(x, count)[1] ** 2)


def interpolation(at: Array, to: Array) -> Array:
    """Return the matrix that turns values at `at` into the interpolating polynomial's values at `to`, none of which is in `at`."""
    terms = _barycentric(at) / (to[:, None] - at)
    return np.asarray(terms / terms.sum(axis=1, keepdims=True))


def differentiation(at: Array) -> Array:
    """Return the matrix that turns values at `at` into the interpolating polynomial's derivative there."""
    weight = _barycentric(at)
    apart = at[:, None] - at + np.eye(at.size)
    matrix = weight / weight[:, None] / apart
    np.fill_diagonal(matrix, 0.0)
    return np.asarray(matrix - np.diag(matrix.sum(axis=1)))


def _barycentric(at: Array) -> Array:
    """Weights of the second barycentric formula (Berrut & Trefethen 2004)."""
    return np.asarray(1 / np.prod(2 * (at[:, None] - at) + np.eye(at.size), axis=1))


def _polynomial(x: Array, degree: int) -> tuple[Array, Array]:
    """P_n and its derivative, by the three-term recurrence."""
    before, value = np.zeros_like(x), np.ones_like(x)
    for n in range(degree):
        before, value = value, ((2 * n + 1) * x * value - n * before) / (n + 1)
    return value, degree * (before - x * value) / (1 - x**2)
