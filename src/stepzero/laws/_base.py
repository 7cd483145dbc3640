"""What every law offers: a mean, a variance, the moments of each element, a dictionary, and a draw."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stepzero.errors import LawError

Shape = tuple[int, ...]
Moments = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Law:
    """The distribution of one parameter at step zero.

    A law is a value: two laws with equal settings are equal. `mean` and `variance` are those of one element;
    where they depend on the shape (an orthogonal matrix, a delta kernel) they are `nan`, and `moments(shape)` knows them.
    """

    kind: ClassVar[str] = ""

    @property
    def mean(self) -> float:
        """Expectation of one element; nan where it differs between elements."""
        return 0.0

    @property
    def variance(self) -> float:
        """Variance of one element; nan where it depends on the shape."""
        return math.nan

    @property
    def std(self) -> float:
        """Standard deviation of one element; nan where it depends on the shape."""
        return math.sqrt(self.variance)

    def moments(self, shape: Shape) -> Moments:
        """Return E[w] and E[w²] of each element, as arrays that broadcast to `shape`.

        Raises:
            LawError: if no tensor of this shape can follow the law.
        """
        self.require(shape)
        return np.full((1,) * len(shape), self.mean), np.full((1,) * len(shape), self.variance + self.mean**2)

    def require(self, shape: Shape) -> None:
        """Raise LawError unless a tensor of this shape can follow the law."""

    def to_dict(self) -> dict[str, Any]:
        """Return the law as plain data: `law` names it, the other keys are its settings."""
        return {"law": self.kind, **{field.name: getattr(self, field.name) for field in fields(self)}}

    def draw(self, shape: Shape, *, seed: int = 0, name: str = "", dtype: str = "float32") -> NDArray[Any]:
        """Return values that depend on `seed`, `name` and the index of each element alone.

        Args:
            shape: Shape of the whole tensor.
            seed: 0 ≤ seed < 2^64.
            name: Canonical name of the parameter; another name gives an independent stream.
            dtype: float32, float64, float16, bfloat16, complex64 or complex128.

        Raises:
            LawError: if the law cannot be drawn for this shape or dtype.
            SeedError: if the seed is out of range.
        """
        from stepzero import streams  # the one upward import of this room: a law draws itself from the streams

        self.require(tuple(shape))
        drawn: NDArray[Any] = streams.draw(self, tuple(shape), seed, name, dtype)
        return drawn


def number(owner: object, name: str) -> float:
    """Return a setting as a finite float, or raise LawError that names law, setting and value."""
    value = getattr(owner, name)
    try:
        as_float = float(value)
    except (TypeError, ValueError):
        as_float = math.nan
    if isinstance(value, bool) or not math.isfinite(as_float):
        raise LawError(f"{type(owner).__name__}: {name}={value!r} is not a finite number.")
    object.__setattr__(owner, name, as_float)  # NumPy scalars and ints become floats, so that equal laws print alike
    return as_float


def nonnegative(owner: object, name: str) -> float:
    """Return a setting as a finite float ≥ 0, or raise LawError."""
    value = number(owner, name)
    if value < 0:
        raise LawError(f"{type(owner).__name__}: {name}={value!r} is negative. Give a number ≥ 0.")
    return value


def positive_int(owner: object, name: str) -> int:
    """Return a setting as an integer ≥ 1, or raise LawError."""
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise LawError(f"{type(owner).__name__}: {name}={value!r} is not a whole number ≥ 1.")
    return value
