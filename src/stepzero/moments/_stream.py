"""What a sum needs to know of an activation that it adds: how skewed it is, and where its small changes live.

In relu(relu(x) + branch), the stream of post-activation nets, the first ReLU makes the sum skewed, and lets a small
change through only where x > 0: there the stream is high, and the second ReLU more often open than elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepzero.theory._hermite import ValueAndSlope, quadrature

if TYPE_CHECKING:
    from stepzero.moments._pointwise import Pointwise
    from stepzero.moments._signal import Signal

Array = NDArray[np.float64]
MOST_SKEWED = 1.5  # beyond, a density with one term for the skewness turns negative in its bulk
HEAVIEST = 4.0  # the same for the kurtosis


class Stream(NamedTuple):
    """Shape of φ(x)'s distribution, at the map's average mean and variance of x."""

    skewness: float = 0.0  # E[(y - E[y])³] / Var[y]^1.5
    live_mean: float = 0.0  # E[y φ'²] / E[φ'²] - E[y]: the mean where a small change lives, less the mean
    live_variance: float = 0.0  # Var[y] with weights φ'², less Var[y]
    kurtosis: float = 0.0  # E[(y - E[y])⁴] / Var[y]² - 3

    def times(self, factor: float) -> Stream:
        """Return the shape of y·factor (adding a number changes nothing)."""
        sign = math.copysign(1.0, factor)
        return Stream(
            sign * self.skewness, factor * self.live_mean, factor * factor * self.live_variance, self.kurtosis
        )


def stream_of(root: Signal, phi: Pointwise) -> Stream:
    """Return the shape of φ(root): its raw moments, alone and weighted by φ'², in units of its largest value."""
    mean, sd = root.average(root.mean), max(0.0, root.variance) ** 0.5
    skewness, kurtosis = limited(root.skewness), bearable(root.tails.own)
    if not sd:
        return Stream()

    z, y, slope, mass = quadrature(phi, phi.kinks, np.array([mean]), np.array([sd]))
    peak, steepest = float(np.abs(y).max()) or 1.0, float(np.abs(slope).max()) or 1.0
    if not (math.isfinite(peak) and math.isfinite(steepest)):
        return Stream()
    y, slope = y / peak, slope / steepest
    mass = mass * (1.0 + skewness / 6.0 * (z**3 - 3.0 * z) + kurtosis / 24.0 * (z**4 - 6.0 * z**2 + 3.0))
    m1, m2, m3, m4 = (float((mass * y**n).sum()) for n in (1, 2, 3, 4))
    skewed, heavy = skewness_of(m1, m2, m3), kurtosis_of(m1, m2, m3, m4)
    live, w1, w2 = (float((mass * y**n * slope**2).sum()) for n in (0, 1, 2))
    if live <= 0.0:
        return Stream(skewed, kurtosis=heavy)
    w1, w2 = w1 / live, w2 / live
    return Stream(skewed, peak * (w1 - m1), peak * peak * ((w2 - w1**2) - (m2 - m1**2)), heavy)


def skewness_of(m1: float, m2: float, m3: float) -> float:
    """Return the skewness that three raw moments mean; 0 where they are no numbers."""
    if not 0.0 < m2 < math.inf:
        return 0.0
    unit = math.sqrt(m2)
    m1, m3 = m1 / unit, m3 / unit / m2
    variance = 1.0 - m1**2
    return (m3 - 3 * m1 + 2 * m1**3) / variance**1.5 if variance > 1e-12 else 0.0


def kurtosis_of(m1: float, m2: float, m3: float, m4: float) -> float:
    """Return the excess kurtosis that four raw moments mean."""
    variance = m2 - m1**2
    if variance <= 1e-12 * m2:
        return 0.0
    return (m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4) / variance**2 - 3.0


def limited(skewness: float) -> float:
    """Return a skewness that one term of the Gram-Charlier series can bear."""
    return min(max(skewness, -MOST_SKEWED), MOST_SKEWED)


def bearable(kurtosis: float) -> float:
    """Return a kurtosis that one term of the series can bear."""
    return min(max(kurtosis, -HEAVIEST / 2), HEAVIEST)


@dataclass(frozen=True)
class Power:
    """φⁿ."""

    phi: ValueAndSlope
    power: int

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Return the value; the slope is not asked for."""
        y, _ = self.phi(x)
        return y**self.power, np.zeros_like(y)
