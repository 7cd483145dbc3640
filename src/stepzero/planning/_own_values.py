r"""Laws read from values, where that is safe: constants, patterns, orthogonal matrices, and draws that pass every test.

A parameter with values of its own may be freshly drawn or trained. It is taken as drawn only if its elements look independent
and alike: their distribution (Kolmogorov-Smirnov, with the settings estimated), their reach, the mean squares of its rows and
columns (chi-squared dispersion), the sums of those (no row or column leans), and the largest singular value of a matrix
(Marchenko & Pastur 1967: no direction stands out). Real draws pass all of it with a probability of at least 99 %; what
fails any of it, or has fewer than 4000 elements, is kept. Of what was not drawn so (Laplace or t-distributed elements, rows of
uneven scale, a low-rank part of the size of the noise) less than 5 % passes at 4096 elements, and next to nothing at 65536.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stepzero.laws import Constant, Dirac, Identity, Law, Normal, Orthogonal, TruncatedNormal, Uniform
from stepzero.streams import Storage, storage

ALARM = 0.01  # probability at most that a real draw is taken for something else
FEWEST = 4000  # elements below which too much that was not drawn passes the tests
MOST = 20_000  # elements whose distribution is tested
BLOCK = 4096  # rows and columns of a matrix that are looked at
SIDE = 512  # of those, the ones whose singular values are tested
TESTS = 7  # that share the alarm rate
Array = NDArray[np.float64]


def law_of_values(values: NDArray[np.floating], dtype: str = "float32") -> Law | None:
    """Return the law that values were drawn from, or None where they do not say.

    Numbers of a short format repeat; they are spread over what rounds to them before they are tested as a draw.

    Args:
        values: A parameter, of any shape.
        dtype: The format that it has been rounded to: float64, float32, float16 or bfloat16.

    Examples:
        >>> law_of_values(np.zeros((4, 4)))
        Constant(0)
        >>> fresh = Uniform(-0.1, 0.1).draw((64, 64), seed=1)
        >>> round(law_of_values(fresh).high, 3)
        0.1
        >>> fresh[0] *= 3  # one output that stands out
        >>> law_of_values(fresh) is None
        True
    """
    if not values.size or not np.isfinite(values).all():
        return None
    kind = storage(dtype)
    return _constant(values) or _pattern(values) or _orthogonal(values, kind) or _drawn(values, kind)


def _constant(values: NDArray[np.floating]) -> Law | None:
    first = float(values.flat[0])
    return Constant(first) if (values == first).all() else None


def _pattern(values: NDArray[np.floating]) -> Law | None:
    """Return the law of a matrix or kernel that hands its input on."""
    shape, ones = values.shape, int(np.count_nonzero(values))
    if ones > shape[0] * (shape[1] if len(shape) > 2 else 1):
        return None
    if len(shape) == 2:
        laws: list[Law] = [Identity(float(values[0, 0]))] if ones == min(shape) else []
    else:
        divisors = [g for g in range(1, shape[0] + 1) if shape[0] % g == 0] if len(shape) > 2 else []
        laws = [Dirac(g) for g in divisors if ones == g * min(shape[0] // g, shape[1])]
    return next((law for law in laws if (law.moments(shape)[0] == values).all()), None)


def _orthogonal(values: NDArray[np.floating], kind: Storage) -> Law | None:
    """Return the law of a matrix whose shorter side is orthonormal up to scale, to a thousandth or what rounding leaves."""
    matrix = values.reshape(len(values), -1) if values.ndim >= 2 else np.empty((0, 0))
    matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    if len(matrix) < 4:  # a few vectors are nearly orthogonal by chance
        return None
    tolerance = max(1e-3, 10 * 2.0**-kind.digits / math.sqrt(matrix.shape[1]))  # random rows: 1/√columns
    for rows in (matrix[:16], matrix):  # a few rows tell at once that most matrices are not
        rows = rows.astype(np.float64)
        gram = rows @ rows.T
        square = float(np.trace(gram)) / len(gram)
        if square <= 0 or np.abs(gram - square * np.eye(len(gram))).max() > tolerance * square:
            return None
    return Orthogonal(_rounded(math.sqrt(square)))


def _drawn(values: NDArray[np.floating], kind: Storage) -> Law | None:
    block = (values.reshape(len(values), -1) if values.ndim > 1 else values.reshape(1, -1))[:BLOCK, :BLOCK]
    if block.size < FEWEST or _repeats(block) or _repeats(block.T):
        return None
    matrix = _spread(block.astype(np.float64), kind)
    flat = matrix.ravel()
    some = flat[:: max(1, flat.size // MOST)][:MOST]
    if np.unique(some).size < some.size / 2:
        return None  # numbers that are repeated are no draw
    if not _unstructured(matrix):
        return None
    fits = [law for law in (guess(flat) for guess in GUESSES) if _follows(law, some, flat)]
    return fits[0] if len(fits) == 1 else None


def _repeats(block: NDArray[np.floating]) -> bool:
    """Say whether two rows are equal."""
    return block.shape[1] >= 8 and len({row.tobytes() for row in block}) < len(block)


def _spread(values: Array, kind: Storage) -> Array:
    """Return numbers of a 16-bit format spread over what rounds to them, always in the same way."""
    if kind.digits > 16:
        return values
    exponent = np.frexp(values)[1]
    cell = np.maximum(np.ldexp(1.0, exponent - kind.digits), kind.tiny)
    spread: Array = values + cell * np.random.default_rng(0).uniform(-0.5, 0.5, values.shape)
    return spread


def _follows(law: Law, some: Array, flat: Array) -> bool:
    """Test distribution and reach, each at its share of the alarm rate."""
    within = SCIPY[type(law)](law)
    alike = stats.kstest(some, within.cdf).pvalue > ALARM / TESTS  # estimated settings make it milder, never stricter
    far, end = float(np.abs(flat - law.mean).max()), within.support()[1] - law.mean
    if math.isfinite(end):  # estimated too: the std to one part in √(2n)
        return bool(alike and far <= end * (1 + 4 / math.sqrt(2 * flat.size)))
    share = ALARM / TESTS / 2
    least, most = (within.isf((1 - p ** (1 / flat.size)) / 2) - law.mean for p in (share, 1 - share))
    return bool(alike and least <= far <= most)


def _unstructured(matrix: Array) -> bool:
    """Say whether rows and columns of a matrix are alike in scale and mean, and no direction stands out."""
    centred = (matrix - matrix.mean()) / matrix.std()
    excess = max(float((centred**4).mean()) - 1.0, 0.0)  # Var[z²], for elements of unit variance
    for side in (centred, centred.T):
        count, length = side.shape
        if count < 2 or length < 8:
            continue
        scales, leans = (side**2).mean(1), side.sum(1) / math.sqrt(length)
        for chi in (((scales - 1) ** 2).sum() * length / excess if excess else 0.0, (leans**2).sum()):
            if not _is_chi_squared(chi, count, excess, length):
                return False
    return _no_direction(centred[:SIDE, :SIDE])


def _is_chi_squared(chi: float, count: int, excess: float, length: int) -> bool:
    """Two-sided, with what non-normal summands add to the spread of a sum of squares."""
    spread = math.sqrt((2 + 12 / length * max(1.0, excess)) / 2)
    normal = (chi - count) / (math.sqrt(2 * count) * spread)
    level = ALARM / TESTS / 2
    low, high = stats.chi2.ppf(level, count), stats.chi2.isf(level, count)
    return bool((low - count) / math.sqrt(2 * count) <= normal <= (high - count) / math.sqrt(2 * count))


def _no_direction(matrix: Array) -> bool:
    """Say whether the largest singular value stays within reach of √m + √n (Johnstone 2001: Tracy-Widom)."""
    rows, columns = matrix.shape
    if min(rows, columns) < 16:
        return True
    a, b = math.sqrt(rows - 0.5), math.sqrt(columns - 0.5)
    centre, scale = (a + b) ** 2, (a + b) * (1 / a + 1 / b) ** (1 / 3)
    largest = float(np.linalg.norm(matrix, 2)) ** 2
    beyond = (largest - centre) / scale
    return bool(-5.0 < beyond < 4.0)  # fewer than one in 1000 lies outside (TW₁ quantiles: 2.0 at 99 %, 3.3 at 99.9 %)


# What a draw may have been: settings from the values


def _normal(flat: Array) -> Law:
    mean, std = float(flat.mean()), float(flat.std())
    centred = abs(mean) < 4 * std / math.sqrt(flat.size)
    return Normal(float(np.sqrt((flat**2).mean())) if centred else std, 0.0 if centred else mean)


def _uniform(flat: Array) -> Law:
    low, high = float(flat.min()), float(flat.max())
    step = (high - low) / flat.size
    if abs(low + high) < 12 * step:  # each end is off by one step on average
        bound = _rounded(max(-low, high) * (1 + 1 / (2 * flat.size)))
        return Uniform(-bound, bound)
    return Uniform(0.0 if 0 <= low < 8 * step else low, high)


def _truncated(flat: Array) -> Law:
    """A normal cut at two standard deviations, as Keras, JAX and timm draw it."""
    return TruncatedNormal(float(np.sqrt((flat**2).mean())))


GUESSES: tuple[Callable[[Array], Law], ...] = (_normal, _uniform, _truncated)
SCIPY: Mapping[type[Law], Callable[[Any], Any]] = MappingProxyType({
    Normal: lambda law: stats.norm(law.mean, law.std),
    Uniform: lambda law: stats.uniform(law.low, law.high - law.low),
    TruncatedNormal: lambda law: stats.truncnorm(law.low, law.high, 0.0, law.parent_std),
})  # fmt: skip


def _rounded(value: float) -> float:
    """Return a number to the six digits that values can tell."""
    return float(f"{value:.6g}")
