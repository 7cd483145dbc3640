"""A pointwise function as a value: what it is, its derivative, and where either jumps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stepzero.errors import ActivationError

Array = NDArray[np.float64]
Function = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Elementwise:
    """A pointwise function φ with what quadrature has to know about it.

    Args:
        name: What people call it, with its settings.
        value: φ, vectorised over a float64 array.
        derivative: φ' wherever it exists; None if unknown (then it is taken from interpolants between the kinks).
        kinks: Where φ or φ' jumps, or bends so sharply that a quadrature panel must end there.
        jumps: True if φ itself jumps: the average over an infinitely wide net then has an infinite slope there,
            while backpropagation sees the derivative beside the jump only.
    """

    name: str
    value: Function
    derivative: Function | None = None
    kinks: tuple[float, ...] = ()
    jumps: bool = False

    def __call__(self, x: Array) -> Array:
        """Evaluate φ."""
        return self.value(x)

    def __repr__(self) -> str:
        return self.name


def number(owner: str, name: str, value: object) -> float:
    """Return a setting as a finite float, or raise ActivationError."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, (bool, str)) or not np.isfinite(number):
        raise ActivationError(f"{owner}: {name}={value!r} is not a finite number.")
    return number


def bends(sharpness: float) -> tuple[float, ...]:
    """Return cuts for a smooth function of sharpness·x around 0: the panels of a plain one would step over its bend."""
    steep = abs(sharpness)
    return (
        tuple(
            at / steep
            for at in (-64.0, -32.0, -16.0, -8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
        )
        if steep > 2
        else ()
    )
