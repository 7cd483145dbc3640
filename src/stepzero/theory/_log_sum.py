"""The logarithm of a sum of exponentials of independent Gaussians: mean, variance, and how uneven the shares are."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(200)
_POINTS = 2001  # of u over which the distribution goes from 0 to 1


class LogSum(NamedTuple):
    """Moments of log Σ exp(√v z), and E[Σ p²] of the softmax p of the same numbers."""

    mean: float
    variance: float
    concentration: float


@lru_cache(maxsize=1024)
def log_sum(variance: float, count: int) -> LogSum:
    r"""Return the moments of L = log Σ_i exp(√v z_i) for n independent normals z.

    With G a standard Gumbel variable of its own, P(L + G ≤ u) = E[exp(-e^{-u} Σ e^{√v z})] = E[exp(-e^{√v z - u})]^n (the
    Gumbel-max trick; Gumbel 1954), so mean and variance of L are those of this distribution less γ and π²/6. And Gaussian integration by
    parts gives E[Σ p²] = 1 - 2 dE[L]/dv.

    Args:
        variance: v ≥ 0.
        count: n ≥ 1.

    Examples:
        >>> round(log_sum(0.0, 8).mean, 6)  # log 8
        2.079442
        >>> round(log_sum(4.0, 1).variance, 2)  # one term is its own logarithm
        4.0
    """
    mean, second = _moments(variance, count)
    step = 1e-3 * max(variance, 1e-2)
    higher, lower = _moments(variance + step, count)[0], _moments(max(variance - step, 0.0), count)[0]
    slope = (higher - lower) / (step + min(step, variance))
    return LogSum(mean, max(second, 0.0), float(np.clip(1.0 - 2.0 * slope, 1.0 / count, 1.0)))


def _moments(variance: float, count: int) -> tuple[float, float]:
    """Return mean and variance by the distribution of L + G."""
    sd = variance**0.5
    centre = np.log(count) + variance / 2
    u = np.linspace(centre - variance / 2 - 12.0 * sd - 6.0, centre + 12.0 * sd + 40.0, _POINTS)
    inner = np.exp(-np.exp(np.clip(sd * _NODES[:, None] - u, -700.0, 700.0)))
    one = (_WEIGHTS @ inner) / _WEIGHTS.sum()
    below = np.clip(one, 0.0, 1.0) ** count
    mean = float(u[-1]) - _integral(below, u)
    about = u - mean
    upper, lower = np.where(about > 0, 1.0 - below, 0.0), np.where(about < 0, below, 0.0)
    square = _integral(2.0 * about * upper, u) + _integral(-2.0 * about * lower, u)
    return mean - np.euler_gamma, square - np.pi**2 / 6


def _integral(y: Array, x: Array) -> float:
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())
