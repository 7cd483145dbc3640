"""Laws whose elements are drawn alike and independently, and the two that draw nothing: a constant, and a value kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from stepzero.errors import LawError

from ._base import Law, Moments, Shape, nonnegative, number


@dataclass(frozen=True, slots=True)
class Normal(Law):
    """N(mean, std²).

    Args:
        std: Standard deviation, ≥ 0.
        mean: Expectation.

    Raises:
        LawError: if a setting is not finite, or std is negative.
    """

    kind: ClassVar[str] = "normal"

    std: float = field()  # field(): without it the base's property would become the default
    mean: float = 0.0

    def __post_init__(self) -> None:
        nonnegative(self, "std")
        number(self, "mean")

    @property
    def variance(self) -> float:
        """Variance of one element."""
        return self.std**2

    def __repr__(self) -> str:
        shift = f", mean={self.mean:.6g}" if self.mean else ""
        return f"Normal(std={self.std:.6g}{shift})"


@dataclass(frozen=True, slots=True)
class Uniform(Law):
    """U(low, high): variance (high − low)²/12, so a bound of √3·std gives the variance std².

    Args:
        low: Lower end.
        high: Upper end, ≥ low.

    Raises:
        LawError: if an end is not finite, or low > high.
    """

    kind: ClassVar[str] = "uniform"

    low: float
    high: float

    def __post_init__(self) -> None:
        if number(self, "low") > number(self, "high"):
            raise LawError(f"Uniform: low={self.low!r} is above high={self.high!r}. Swap them.")

    @property
    def mean(self) -> float:
        """Middle of the interval."""
        return (self.low + self.high) / 2

    @property
    def variance(self) -> float:
        """Variance of one element."""
        return (self.high - self.low) ** 2 / 12

    def __repr__(self) -> str:
        return f"Uniform(low={self.low:.6g}, high={self.high:.6g})"


@dataclass(frozen=True, slots=True)
class TruncatedNormal(Law):
    """A normal cut to [low, high] parent standard deviations, scaled so that what is left has the std that was asked.

    Cutting N(0, σ²) at ±2σ leaves a standard deviation of 0.8796 σ. Here `std` is the realised one; the parent's is `parent_std`.

    Args:
        std: Realised standard deviation, ≥ 0.
        low: Lower cut, in standard deviations of the parent.
        high: Upper cut, in standard deviations of the parent; > low.

    Raises:
        LawError: if a setting is not finite, std is negative, or no mass lies between the cuts.

    Examples:
        >>> round(0.02 / TruncatedNormal(std=0.02).parent_std, 10)
        0.879625661
    """

    kind: ClassVar[str] = "truncated_normal"

    std: float = field()
    low: float = -2.0
    high: float = 2.0

    def __post_init__(self) -> None:
        nonnegative(self, "std")
        if number(self, "low") >= number(self, "high"):
            raise LawError(
                f"TruncatedNormal: no mass between low={self.low!r} and high={self.high!r}. Give low < high."
            )
        mass = truncated_moments(self.low, self.high)[0]
        if mass < 2.0**-32:  # one step of the 32-bit quantile that values are drawn from
            raise LawError(
                f"TruncatedNormal: a normal has only {mass:.1e} of its mass between {self.low:g} and {self.high:g} "
                "standard deviations: nothing could be drawn. Move the cuts towards 0."
            )

    @property
    def parent_std(self) -> float:
        """Standard deviation of the normal before the cut."""
        return self.std / math.sqrt(truncated_moments(self.low, self.high)[2])

    @property
    def mean(self) -> float:
        """Expectation of one element: 0 for symmetric cuts."""
        return self.parent_std * truncated_moments(self.low, self.high)[1]

    @property
    def variance(self) -> float:
        """Variance of one element."""
        return self.std**2

    def __repr__(self) -> str:
        cuts = "" if (self.low, self.high) == (-2.0, 2.0) else f", low={self.low:g}, high={self.high:g}"
        return f"TruncatedNormal(std={self.std:.6g}{cuts})"


@dataclass(frozen=True, slots=True)
class Constant(Law):
    """Every element is `value`.

    Raises:
        LawError: if the value is not finite.
    """

    kind: ClassVar[str] = "constant"

    value: float

    def __post_init__(self) -> None:
        number(self, "value")

    @property
    def mean(self) -> float:
        """The value."""
        return self.value

    @property
    def variance(self) -> float:
        """Zero."""
        return 0.0

    def __repr__(self) -> str:
        return f"Constant({self.value:g})"


@dataclass(frozen=True, slots=True)
class Kept(Law):
    """The parameter stays as it is: nothing is drawn, and nothing is known about it."""

    kind: ClassVar[str] = "kept"

    @property
    def mean(self) -> float:
        """Unknown."""
        return math.nan

    @property
    def variance(self) -> float:
        """Unknown."""
        return math.nan

    def draw(self, shape: Shape, *, seed: int = 0, name: str = "", dtype: str = "float32") -> Any:
        """Raise LawError: a kept parameter has no values of its own."""
        raise LawError(
            f"Kept: {name or 'this parameter'} keeps the value it has; there is nothing to draw. Give it a law."
        )


@dataclass(frozen=True, slots=True)
class Sparse(Law):
    """Normal values, with the same share of zeros in every column (Martens 2010, Deep learning via Hessian-free optimization).

    Each column of a matrix [rows, columns] gets ceil(sparsity · rows) zeros, at random places.

    Args:
        sparsity: Share of zeros, 0 … 1.
        std: Standard deviation of the others.

    Raises:
        LawError: if sparsity is outside 0 … 1, or std is negative or not finite.
    """

    kind: ClassVar[str] = "sparse"

    sparsity: float
    std: float = 0.01

    def __post_init__(self) -> None:
        nonnegative(self, "std")
        if not 0 <= number(self, "sparsity") <= 1:
            raise LawError(f"Sparse: sparsity={self.sparsity!r} is not a share. Give a number from 0 to 1.")

    @property
    def variance(self) -> float:
        """Nan: the number of zeros is a whole number of rows; see `moments`."""
        return math.nan

    def zeros(self, shape: Shape) -> int:
        """Return how many zeros each column of a matrix of this shape holds."""
        return math.ceil(self.sparsity * shape[0])

    def require(self, shape: Shape) -> None:
        """Raise LawError unless the shape is that of a matrix."""
        if len(shape) != 2 or 0 in shape:
            raise LawError(
                f"Sparse: the share of zeros is per column of a matrix, got shape {tuple(shape)}. Give 2 axes."
            )

    def moments(self, shape: Shape) -> Moments:
        """Return E[w] = 0 and E[w²] = std² · (1 − zeros/rows), as arrays that broadcast to `shape`."""
        self.require(shape)
        return np.zeros((1, 1)), np.full((1, 1), self.std**2 * (1 - self.zeros(shape) / shape[0]))

    def __repr__(self) -> str:
        return f"Sparse(sparsity={self.sparsity:g}, std={self.std:.6g})"


@lru_cache(maxsize=256)
def truncated_moments(low: float, high: float) -> tuple[float, float, float]:
    """Return mass, mean and variance of N(0, 1) restricted to [low, high].

    Integrated, not by the textbook difference 1 + (low·φ(low) − high·φ(high))/Z − mean², which loses its digits on narrow intervals.
    """
    low, high = max(low, -_FAR), min(high, _FAR)
    if low >= high:
        return 0.0, math.nan, math.nan
    edges = np.linspace(low, high, 33)
    half = np.diff(edges)[:, None] / 2
    x = edges[:-1, None] + half * (1 + _NODES)
    weight = half * _WEIGHTS * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    mass = float(weight.sum())
    mean = float((weight * x).sum()) / mass
    return mass, mean, float((weight * (x - mean) ** 2).sum()) / mass


_FAR = 20.0  # standard deviations beyond which a float64 holds no mass
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
