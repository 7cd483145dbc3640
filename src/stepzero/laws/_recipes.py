"""Named recipes: rules that turn a fan into a law, as data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import ClassVar, Literal, get_args

from stepzero.errors import RecipeError
from stepzero.theory import FAN_MODES, FanMode, Fans

from ._base import Law
from ._elementwise import Normal, TruncatedNormal, Uniform

Distribution = Literal["uniform", "normal", "truncated_normal"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A rule of the form Var[w] = scale / fan, with a distribution to draw from."""

    kind: ClassVar[str] = ""

    @property
    def rule(self) -> VarianceScaling:
        """The recipe as variance scaling."""
        raise NotImplementedError

    def law(self, fans: Fans) -> Law:
        """Return the law for a weight with these fans."""
        rule = self.rule
        return DISTRIBUTIONS[rule.distribution](math.sqrt(rule.scale / fans.of(rule.mode)))


@dataclass(frozen=True, slots=True)
class VarianceScaling(Recipe):
    """Zero-mean weights with Var[w] = scale / fan.

    Args:
        scale: gain² of what precedes the weight (fan_in) or follows it (fan_out); > 0.
        mode: Which fan: fan_in, fan_out, fan_avg (their mean) or fan_geo_avg (their geometric mean).
        distribution: uniform, normal or truncated_normal (cut at ±2σ, realised std exact).

    Raises:
        RecipeError: if the scale is not positive, or mode or distribution is unknown.

    Examples:
        >>> VarianceScaling(2.0, "fan_in", "normal").law(Fans(800, 25))
        Normal(std=0.05)
    """

    kind: ClassVar[str] = "variance_scaling"

    scale: float = 1.0
    mode: FanMode = "fan_in"
    distribution: Distribution = "uniform"

    def __post_init__(self) -> None:
        _positive(self, "scale")
        _choice(self, "mode", FAN_MODES)
        _choice(self, "distribution", tuple(DISTRIBUTIONS))

    @property
    def rule(self) -> VarianceScaling:
        """The recipe itself."""
        return self


@dataclass(frozen=True, slots=True)
class Kaiming(Recipe):
    """Var[w] = 2 / ((1 + a²) · fan), which holds the second moment through (leaky) ReLUs (He et al. 2015, eq. 10, 14, 15).

    Args:
        a: Negative slope of the activation; 0 is ReLU, 1 is linear, √5 is what torch's layers do by default.
        mode: fan_in holds the forward pass, fan_out the backward pass.
        distribution: uniform, normal or truncated_normal.

    Raises:
        RecipeError: if a is not finite, or mode or distribution is unknown.

    Examples:
        >>> Kaiming().law(Fans(25, 800))
        Uniform(low=-0.489898, high=0.489898)
    """

    kind: ClassVar[str] = "kaiming"

    a: float = 0.0
    mode: FanMode = "fan_in"
    distribution: Distribution = "uniform"

    def __post_init__(self) -> None:
        _finite(self, "a")
        _choice(self, "mode", FAN_MODES)
        _choice(self, "distribution", tuple(DISTRIBUTIONS))

    @property
    def rule(self) -> VarianceScaling:
        """The recipe as variance scaling."""
        return VarianceScaling(2 / (1 + self.a**2), self.mode, self.distribution)


@dataclass(frozen=True, slots=True)
class Xavier(Recipe):
    """Var[w] = gain² · 2 / (fan_in + fan_out), the compromise of forward and backward (Glorot & Bengio 2010, eq. 12, 16).

    Args:
        gain: Gain of the activation; > 0.
        distribution: uniform, normal or truncated_normal.

    Raises:
        RecipeError: if the gain is not positive, or the distribution is unknown.
    """

    kind: ClassVar[str] = "xavier"

    gain: float = 1.0
    distribution: Distribution = "uniform"

    def __post_init__(self) -> None:
        _positive(self, "gain")
        _choice(self, "distribution", tuple(DISTRIBUTIONS))

    @property
    def rule(self) -> VarianceScaling:
        """The recipe as variance scaling."""
        return VarianceScaling(self.gain**2, "fan_avg", self.distribution)


@dataclass(frozen=True, slots=True)
class LeCun(Recipe):
    """Var[w] = gain² / fan_in (LeCun et al. 1998, Efficient BackProp, eq. 16); what SELU asks for.

    Args:
        gain: Gain of the activation; > 0.
        distribution: uniform, normal or truncated_normal.

    Raises:
        RecipeError: if the gain is not positive, or the distribution is unknown.
    """

    kind: ClassVar[str] = "lecun"

    gain: float = 1.0
    distribution: Distribution = "uniform"

    def __post_init__(self) -> None:
        _positive(self, "gain")
        _choice(self, "distribution", tuple(DISTRIBUTIONS))

    @property
    def rule(self) -> VarianceScaling:
        """The recipe as variance scaling."""
        return VarianceScaling(self.gain**2, "fan_in", self.distribution)


def recipe(name: str) -> Recipe:
    """Return the recipe of this name from `RECIPES`.

    Raises:
        RecipeError: if there is none; the message names the nearest ones.
    """
    if name in RECIPES:
        return RECIPES[name]
    near = get_close_matches(name.lower(), RECIPES, n=3)
    raise RecipeError(f"no recipe is called {name!r}. {_or(near) if near else 'Choose one of ' + ', '.join(RECIPES)}.")


def _uniform(std: float) -> Uniform:
    bound = math.sqrt(3) * std  # Var U(−b, b) = b²/3
    return Uniform(-bound, bound)


def _finite(owner: Recipe, name: str) -> float:
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RecipeError(f"{type(owner).__name__}: {name}={value!r} is not a finite number.")
    object.__setattr__(owner, name, float(value))
    return float(value)


def _positive(owner: Recipe, name: str) -> None:
    if _finite(owner, name) <= 0:
        raise RecipeError(
            f"{type(owner).__name__}: {name}={getattr(owner, name)!r} is not positive. For zeros use Constant(0.0)."
        )


def _choice(owner: Recipe, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(owner, name)
    if value not in choices:
        what = "a fan" if name == "mode" else f"a {name}"
        raise RecipeError(f"{name}={value!r} is not {what}. Choose one of {', '.join(choices)}.")


def _or(names: list[str]) -> str:
    return f"Did you mean {' or '.join(names)}?"


DISTRIBUTIONS: Mapping[str, Callable[[float], Law]] = MappingProxyType(
    {
        "uniform": _uniform,
        "normal": Normal,
        "truncated_normal": TruncatedNormal,
    }
)
assert tuple(DISTRIBUTIONS) == get_args(Distribution)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "kaiming_uniform": Kaiming(),  # He et al. 2015, eq. 10
        "kaiming_normal": Kaiming(distribution="normal"),
        "he_uniform": Kaiming(),  # Keras and JAX spelling
        "he_normal": Kaiming(distribution="truncated_normal"),  # Keras and JAX truncate
        "xavier_uniform": Xavier(),  # Glorot & Bengio 2010, eq. 16
        "xavier_normal": Xavier(distribution="normal"),
        "glorot_uniform": Xavier(),
        "glorot_normal": Xavier(distribution="truncated_normal"),
        "lecun_uniform": LeCun(),  # LeCun et al. 1998, eq. 16
        "lecun_normal": LeCun(distribution="truncated_normal"),
        "torch_default": Kaiming(a=math.sqrt(5)),  # U(±1/√fan_in): variance 1/(3·fan_in)
    }
)
