"""exp and log from sums, products and quotients of binary64 alone: the same bits on every machine.

Libraries and vector units round these functions in their own ways; a value that is to depend on seed, name and index alone
cannot go through them. IEEE 754 settles the four operations, the square root, `rint`, `frexp` and `ldexp`; every step here is one
of those, an array at a time, so that no compiler fuses a product into a sum. The error stays within a few units of the last place.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # ln 2 in 33 + 53 bits: k·LN2_HIGH is exact
TAYLOR = tuple(1.0 / math.factorial(n) for n in range(18, 0, -1))  # of expm1(x)/x, from the highest order down
ODD = tuple(1.0 / (2 * n + 1) for n in range(12, -1, -1))  # of atanh(s)/s, in s²
LOWEST, HIGHEST = -746.0, 710.0  # beyond them exp is 0 or infinite


def exp(x: Array) -> Array:
    """Return e^x = 2^k·e^r, with |r| ≤ ½ ln 2 and a Taylor polynomial."""
    bounded = np.clip(x, LOWEST, HIGHEST)
    k = np.rint(bounded * (1.0 / math.log(2.0)))
    rest = (bounded - k * LN2_HIGH) - k * LN2_LOW
    found: Array = np.ldexp(1.0 + rest * _horner(TAYLOR, rest), k.astype(np.int32))
    return found


def expm1(x: Array) -> Array:
    """Return e^x − 1, without cancellation around 0."""
    small = np.abs(x) < 0.5
    near = np.where(small, x, 0.0)
    return np.where(small, near * _horner(TAYLOR, near), exp(x) - 1.0)


def log(x: Array) -> Array:
    """Return ln x = k ln 2 + 2 atanh((m − 1)/(m + 1)), with x = m·2^k and m around 1; −inf at 0, nan below."""
    positive, endless = x > 0, np.isposinf(x)
    mantissa, exponent = np.frexp(np.where(positive & ~endless, x, 1.0))
    low = mantissa < math.sqrt(0.5)
    k = exponent - low.astype(np.int32)
    series = _log1p_series(np.where(low, 2.0 * mantissa, mantissa) - 1.0)
    finite = k * LN2_HIGH + (series + k * LN2_LOW)
    return np.where(positive, np.where(endless, x, finite), np.where(x == 0, -np.inf, np.nan))


def log1p(x: Array) -> Array:
    """Return ln(1 + x), without cancellation around 0."""
    small = np.abs(x) < 0.25
    return np.where(small, _log1p_series(np.where(small, x, 0.0)), log(1.0 + x))


def _log1p_series(f: Array) -> Array:
    """Return ln(1 + f) = 2 atanh(f/(2 + f)) for |f| < 0.42."""
    s = f / (2.0 + f)
    return 2.0 * s * _horner(ODD, s * s)


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total
