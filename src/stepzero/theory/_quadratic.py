"""A variance of few Gaussian modes: what its inverse is on average, and which share of it each kind of mode holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stepzero.theory._panels import legendre

Array = NDArray[np.float64]
NODES = 64


def inverse_and_shares(values: Array, counts: Array) -> tuple[Array, Array]:
    r"""Return E[v]·E[1/v] and E[λ_k χ²_k / v] for v = Σ_k λ_k χ²_k, with χ²_k of n_k degrees of freedom.

    A quadratic form in Gaussians, as the variance of a normalised set is over the draws of the weights before it. By
    1/v = ∫₀^∞ exp(-tv) dt both are one-dimensional integrals of P(t) = Π_k (1 + 2tλ_k)^(-n_k/2): E[1/v] = ∫ P dt, and
    E[λ_k χ²_k / v] = ∫ n_k λ_k / (1 + 2tλ_k) P dt (Mathai & Provost, Quadratic Forms in Random Variables, 1992, §4.5).

    Args:
        values: λ_k ≥ 0, shape (rows, kinds); a row that is all 0 comes back with inverse 1 and no shares.
        counts: n_k ≥ 0, the same shape; fractions are allowed. With two degrees or fewer in all, E[1/v] is infinite.

    Examples:
        >>> inverse, shares = inverse_and_shares(np.array([[1.0, 3.0]]), np.array([[9.0, 0.0]]))
        >>> inverse.round(9).tolist(), shares.round(9).tolist()   # nine equal modes: n/(n - 2)
        ([1.285714286], [[1.0, 0.0]])
    """
    mean = (values * counts).sum(1, keepdims=True)
    scaled = values / np.where(mean > 0.0, mean, 1.0)
    u, w = legendre(NODES)
    t = (u / (1.0 - u)) ** 2  # takes [0, 1) to [0, ∞)
    grown = 1.0 + 2.0 * t[:, None, None] * scaled  # (nodes, rows, kinds)
    density = (w * 2.0 * u / (1.0 - u) ** 3)[:, None] * np.exp(-0.5 * (np.log(grown) * counts).sum(2))
    shares = (density[..., None] * counts * scaled / grown).sum(0)
    free = np.where(scaled > 0.0, counts, 0.0).sum(1)
    inverse = np.where(free > 2.0, density.sum(0), np.inf)
    known = np.where(free[:, None] > 2.0, shares, counts * scaled)
    return np.where(mean[:, 0] > 0.0, inverse, 1.0), known / np.where(mean > 0.0, known.sum(1, keepdims=True), 1.0)
