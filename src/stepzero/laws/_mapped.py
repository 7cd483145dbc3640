"""The law of a function of a draw: log-uniform decay rates, clipped normals, the inverse softplus of a time step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from stepzero.errors import LawError

from ._base import Law
from ._elementwise import Normal, TruncatedNormal, Uniform
from ._portable import exp, expm1, log, log1p

Array = NDArray[np.float64]
Step = tuple[Any, ...]  # the name of a function, and its constants
POINTS = 2**14  # of the quadrature
UNIFORM_REACH = 25 * math.log(2.0)  # of a logit: no uniform value lies nearer to an end than 2^-25 of its interval
NORMAL_REACH = 6.25  # standard deviations: no normal value lies further out


@dataclass(frozen=True, slots=True)
class Mapped(Law):
    """A function of a draw: each element of `law`, taken through `steps` in order.

    A step is the name of a function and its constants: ("mul", 0.5), ("add", 1.0), ("clamp", −2.0, 2.0) with None for no bound, ("exp",) …
    They are computed in binary64 from the draw before its last rounding, by sums, products and quotients alone, so that the bits
    are the same everywhere; then rounded once.

    Args:
        law: Normal, Uniform or TruncatedNormal.
        steps: Functions of `STEPS`, at least one.

    Raises:
        LawError: if the law is another, a step is unknown or lacks its constants, or the result is not finite wherever the law reaches.

    Examples:
        >>> rates = Mapped(Uniform(0.0, 1.0), (("log",), ("mul", -0.5)))   # exponential, of rate 2
        >>> round(rates.mean, 5), round(rates.std, 5)
        (0.5, 0.5)
        >>> Mapped(Normal(1.0), (("clamp", -1.0, 1.0),)).draw((64,)).max()
        np.float32(1.0)
    """

    kind: ClassVar[str] = "mapped"

    law: Law
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if type(self.law) not in GRIDS:
            known = ", ".join(kind.__name__ for kind in GRIDS)
            raise LawError(f"Mapped: {self.law!r} is not drawn element by element. Give one of {known}.")
        object.__setattr__(self, "steps", tuple(map(_checked, self.steps)))
        if not self.steps:
            raise LawError(f"Mapped: no steps. Without any it is {self.law!r} itself.")
        if not math.isfinite(_moments(self)[1]):
            raise LawError(
                f"{self!r} is not finite everywhere: some step leaves its range. Clamp the draw before, or move the law."
            )

    @property
    def mean(self) -> float:
        """Expectation of one element, by quadrature: to six digits or better."""
        return _moments(self)[0]

    @property
    def variance(self) -> float:
        """Variance of one element, by quadrature."""
        return _moments(self)[1]

    @property
    def reach(self) -> float:
        """Largest magnitude among the values that can come, nearly."""
        return _moments(self)[2]

    def of(self, draws: Array) -> Array:
        """Return what the steps make of values of the law, in binary64."""
        return applied(self.steps, draws)

    def then(self, *steps: Step) -> Mapped:
        """Return the law with further steps; neighbouring sums and products become one."""
        made = list(self.steps)
        for step in steps:
            if made and step[0] == made[-1][0] and step[0] in MERGES:
                made[-1] = (step[0], MERGES[step[0]](made[-1][1], step[1]))
            else:
                made.append(step)
        return Mapped(self.law, tuple(made))

    def to_dict(self) -> dict[str, Any]:
        """Return the law as plain data."""
        return {"law": self.kind, "of": self.law.to_dict(), "steps": [list(step) for step in self.steps]}

    def __repr__(self) -> str:
        return f"Mapped({self.law!r}, {' → '.join(map(_in_words, self.steps))})"


def applied(steps: tuple[Step, ...], values: Array) -> Array:
    """Return what steps make of values, in binary64."""
    with np.errstate(all="ignore"):  # what cannot be is refused when the law is made
        for name, *constants in steps:
            values = STEPS[name][1](values, *constants)
    return values


def _tanh(x: Array) -> Array:
    lost = expm1(-2.0 * np.abs(x))
    return np.copysign(lost / (lost + 2.0), x)


def _checked(step: Any) -> Step:
    """Return a step with its constants as floats, or raise LawError."""
    name, *constants = step if isinstance(step, (tuple, list)) and step else (step,)
    if not isinstance(name, str) or name not in STEPS:
        raise LawError(f"Mapped: step {step!r} is unknown. Choose one of {', '.join(STEPS)}.")
    numbers = tuple(None if c is None and name == "clamp" else _finite(name, c) for c in constants)
    if len(numbers) != STEPS[name][0]:
        raise LawError(f"Mapped: step {name} takes {STEPS[name][0]} constants, got {constants!r}.")
    if name == "clamp" and not _is_interval(*numbers):
        raise LawError(f"Mapped: clamp takes a lower bound, an upper one above it, or both, got {constants!r}.")
    return (name, *numbers)


def _is_interval(low: float | None, high: float | None) -> bool:
    return (low is not None or high is not None) and (low is None or high is None or low <= high)


def _finite(name: str, constant: Any) -> float:
    if isinstance(constant, bool) or not isinstance(constant, (int, float, np.number)) or not math.isfinite(constant):
        raise LawError(f"Mapped: step {name} with {constant!r}, which is no finite number.")
    return float(constant)


def _in_words(step: Step) -> str:
    name, *constants = step
    shown = ", ".join("·" if c is None else f"{c:.6g}" for c in constants)
    return f"{name}({shown})" if constants else str(name)


@lru_cache(maxsize=1024)
def _moments(law: Mapped) -> tuple[float, float, float]:
    """Return mean, variance and largest magnitude, by the trapezoidal rule in a coordinate in which the tails fall off."""
    values, weights = GRIDS[type(law.law)](law.law)
    for step in law.steps:
        if step[0] == "reciprocal" and values.min() <= 0 <= values.max():
            return math.nan, math.nan, math.nan  # a pole within reach
        values = applied((step,), values)
    if not np.isfinite(values).all():
        return math.nan, math.nan, math.nan
    mean = float((weights * values).sum())
    return mean, float((weights * (values - mean) ** 2).sum()), float(np.abs(values).max())


def _uniform_grid(law: Uniform) -> tuple[Array, Array]:
    """In the logit of the quantile: the ends, where a logarithm may start, get as many points as the middle."""
    logit = np.linspace(-UNIFORM_REACH, UNIFORM_REACH, POINTS)
    share = expit(logit)
    below = logit < 0
    from_end = np.where(below, share, expit(-logit)) * (law.high - law.low)
    return np.where(below, law.low + from_end, law.high - from_end), _normalised(share * expit(-logit))


def _normal_grid(law: Normal) -> tuple[Array, Array]:
    z = np.linspace(-NORMAL_REACH, NORMAL_REACH, POINTS)
    return law.mean + law.std * z, _normalised(np.exp(-(z**2) / 2))


def _truncated_grid(law: TruncatedNormal) -> tuple[Array, Array]:
    z = np.linspace(max(law.low, -NORMAL_REACH), min(law.high, NORMAL_REACH), POINTS)
    return law.parent_std * z, _normalised(np.exp(-(z**2) / 2))


def _normalised(density: Array) -> Array:
    density[[0, -1]] /= 2
    weights: Array = density / density.sum()
    return weights


Grid = Callable[[Any], tuple[Array, Array]]
GRIDS: Mapping[type[Law], Grid] = MappingProxyType({
    Uniform: _uniform_grid, Normal: _normal_grid, TruncatedNormal: _truncated_grid,
})  # fmt: skip

# How many constants a step takes, and what it does.
STEPS: Mapping[str, tuple[int, Callable[..., Array]]] = MappingProxyType(
    {
        "add": (1, lambda x, a: x + a),
        "mul": (1, lambda x, a: x * a),
        "clamp": (2, lambda x, low, high: np.clip(x, low, high)),
        "abs": (0, np.abs),
        "square": (0, lambda x: x * x),
        "sqrt": (0, np.sqrt),
        "reciprocal": (0, lambda x: 1.0 / x),
        "exp": (0, exp),
        "expm1": (0, expm1),
        "log": (0, log),
        "log1p": (0, log1p),
        "sigmoid": (0, lambda x: 1.0 / (1.0 + exp(-x))),
        "logit": (0, lambda x: log(x / (1.0 - x))),
        "tanh": (0, _tanh),
        "softplus": (0, lambda x: np.maximum(x, 0.0) + log1p(exp(-np.abs(x)))),
        "softplus_inverse": (0, lambda x: x + log(-expm1(-x))),
    }
)
MERGES: Mapping[str, Callable[[float, float], float]] = MappingProxyType(
    {"add": lambda a, b: a + b, "mul": lambda a, b: a * b}
)
