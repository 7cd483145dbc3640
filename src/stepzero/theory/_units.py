"""What stands between two weight layers: one pointwise function, a mixture of several, or a gated product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepzero.errors import ActivationError

from . import _piecewise as piecewise
from ._elementwise import Elementwise, number
from ._legendre import rule


@dataclass(frozen=True, slots=True)
class Unit:
    """What stands between two weight layers: one pointwise function, a mixture of several, or a gated product.

    Args:
        name: What people call it, with its settings.
        parts: Functions with the share of channels (or of draws) that each acts on; the shares add up to 1.
        gated: True for a product a·φ(b) of two halves (Shazeer 2020, GLU variants).
    """

    name: str
    parts: tuple[tuple[float, Elementwise], ...]
    gated: bool = False

    @property
    def function(self) -> Elementwise | None:
        """The pointwise function, if there is just one and no gate."""
        return self.parts[0][1] if len(self.parts) == 1 and not self.gated else None

    def __repr__(self) -> str:
        return self.name


def prelu(slope: Any = 0.25) -> Unit:
    """Leaky ReLU with a learned slope for each channel; the channels are averaged."""
    slopes, counts = np.unique(_slopes(slope), return_counts=True)
    parts = [(float(n / counts.sum()), piecewise.leaky_relu(float(a))) for a, n in zip(slopes, counts, strict=True)]
    text = f"{slopes[0]:g}" if slopes.size == 1 else f"{counts.sum()} slopes"
    return Unit(f"prelu({text})", tuple(parts))


def rrelu(lower: float = 1 / 8, upper: float = 1 / 3, training: bool = True) -> Unit:
    """Leaky ReLU whose slope is drawn from U(lower, upper) in training, and is its mean in evaluation (Xu et al. 2015)."""
    lower, upper = number("rrelu", "lower", lower), number("rrelu", "upper", upper)
    if lower > upper:
        raise ActivationError(f"rrelu: lower={lower!r} is above upper={upper!r}.")
    name, middle, half = f"rrelu({lower:.4g}, {upper:.4g})", (lower + upper) / 2, (upper - lower) / 2
    if not training:
        return Unit(name, ((1.0, piecewise.leaky_relu(middle)),))
    # Three Gauss points average every polynomial in the slope up to the fifth power exactly: E φ⁴ holds the fourth.
    at, weight = rule(3)
    return Unit(
        name, tuple((float(w / 2), piecewise.leaky_relu(middle + half * t)) for t, w in zip(at, weight, strict=True))
    )


def gated(name: str, gate: Callable[[], Elementwise]) -> Callable[[], Unit]:
    """The product a·φ(b) of two independent halves."""
    return lambda: Unit(name, ((1.0, gate()),), gated=True)


def _slopes(slope: Any) -> Any:
    """Slopes as a flat array; a module's tensor is read without importing torch."""
    detached = slope.detach().cpu().double().numpy() if hasattr(slope, "detach") else slope
    slopes = np.atleast_1d(np.asarray(detached, dtype=np.float64)).ravel()
    if slopes.size == 0 or not np.all(np.isfinite(slopes)):
        raise ActivationError(f"prelu: the slope {slope!r} is not finite.")
    return slopes


def prelu_module(module: Any) -> Unit:
    on_meta = getattr(module.weight, "is_meta", False)  # no numbers there yet: what it will start from
    return prelu(module.init if on_meta else module.weight)
