"""Smooth activations: the sigmoid family, the GELUs and swishes, and what implicit networks use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from stepzero.errors import ActivationError

from ._elementwise import Array, Elementwise, bends, number
from ._gaussian import REACH


def sigmoid() -> Elementwise:
    """φ(x) = 1 / (1 + e^{−x})."""
    return Elementwise("sigmoid", expit, lambda x: expit(x) * expit(-x))


def logsigmoid() -> Elementwise:
    """φ(x) = log sigmoid(x)."""
    return Elementwise("logsigmoid", lambda x: -np.logaddexp(0, -x), lambda x: expit(-x))


def softplus(beta: float = 1.0, threshold: float = 20.0) -> Elementwise:
    """φ(x) = log(1 + e^{βx}) / β; x itself where βx > threshold, as torch does."""
    b = number("softplus", "beta", beta)
    t = number("softplus", "threshold", threshold)
    if b == 0:
        raise ActivationError("softplus: beta=0 divides by zero.")
    return Elementwise(
        "softplus" if (b, t) == (1, 20) else f"softplus({b:g}, {t:g})",
        lambda x: np.where(b * x > t, x, np.logaddexp(0, b * x) / b),
        lambda x: np.where(b * x > t, 1.0, expit(b * x)),
        (*bends(b), t / b),
        jumps=t < 20,
    )


def squareplus(b: float = 4.0) -> Elementwise:
    """φ(x) = (x + √(x² + b)) / 2 (Barron 2021)."""
    b = number("squareplus", "b", b)
    if b <= 0:
        raise ActivationError(f"squareplus: b={b!r} is not positive.")

    def root(x: Array) -> Array:
        return np.asarray(np.sqrt(x**2 + b))

    return Elementwise("squareplus", lambda x: (x + root(x)) / 2, lambda x: (1 + x / root(x)) / 2, bends(b**-0.5))


def tanh() -> Elementwise:
    """φ(x) = tanh(x)."""
    return Elementwise("tanh", np.tanh, lambda x: 1 - np.tanh(x) ** 2)


def lecun_tanh() -> Elementwise:
    """φ(x) = 1.7159·tanh(2x/3) (LeCun et al. 1998, §4.4)."""
    return Elementwise(
        "lecun_tanh",
        lambda x: 1.7159 * np.tanh(2 * x / 3),
        lambda x: 1.7159 * 2 / 3 * (1 - np.tanh(2 * x / 3) ** 2),
    )


def tanhshrink() -> Elementwise:
    """φ(x) = x − tanh(x)."""
    return Elementwise("tanhshrink", lambda x: x - np.tanh(x), lambda x: np.tanh(x) ** 2)


def gelu(approximate: str = "none") -> Elementwise:
    """φ(x) = x·Φ(x), or with approximate="tanh" the tanh formula (Hendrycks & Gimpel 2016)."""
    if approximate not in _GELUS:
        raise ActivationError(f"gelu: approximate={approximate!r} is unknown. Choose one of {', '.join(_GELUS)}.")
    return _GELUS[approximate]()


def gelu_tanh() -> Elementwise:
    """φ(x) = x/2·(1 + tanh(√(2/π)(x + 0.044715x³)))."""
    c, cubic = np.sqrt(2 / np.pi), 0.044715

    def slope(x: Array) -> Array:
        t = np.tanh(c * (x + cubic * x**3))
        return np.asarray((1 + t) / 2 + x * (1 - t**2) * c * (1 + 3 * cubic * x**2) / 2)

    return Elementwise("gelu_tanh", lambda x: x * (1 + np.tanh(c * (x + cubic * x**3))) / 2, slope)


def silu(beta: float = 1.0) -> Elementwise:
    """φ(x) = x·sigmoid(βx) (Elfwing et al. 2017; Ramachandran et al. 2017)."""
    b = number("silu", "beta", beta)
    return Elementwise(
        "silu" if b == 1 else f"silu({b:g})",
        lambda x: x * expit(b * x),
        lambda x: expit(b * x) * (1 + b * x * expit(-b * x)),
        bends(b),
    )


def quick_gelu() -> Elementwise:
    """φ(x) = x·sigmoid(1.702x)."""
    swish = silu(1.702)
    return Elementwise("quick_gelu", swish.value, swish.derivative)


def mish() -> Elementwise:
    """φ(x) = x·tanh(softplus(x)) (Misra 2019)."""

    def slope(x: Array) -> Array:
        t = np.tanh(np.logaddexp(0, x))
        return np.asarray(t + x * (1 - t**2) * expit(x))

    return Elementwise("mish", lambda x: x * np.tanh(np.logaddexp(0, x)), slope)


def sine(frequency: float = 1.0) -> Elementwise:
    """φ(x) = sin(ωx) (Sitzmann et al. 2020, SIREN, uses ω = 30)."""
    w = number("sin", "frequency", frequency)
    if abs(w) > 1000:
        raise ActivationError(f"sin: frequency={w!r} is above 1000, too fast to be integrated.")
    turns = np.arange(-REACH, REACH, 4 / abs(w)) if abs(w) > 2 else ()  # under two thirds of a turn for each panel
    name = "sin" if w == 1 else f"sin({w:g})"
    return Elementwise(name, lambda x: np.sin(w * x), lambda x: w * np.cos(w * x), tuple(map(float, turns)))


def cosine() -> Elementwise:
    """φ(x) = cos(x)."""
    return Elementwise("cos", np.cos, lambda x: -np.sin(x))


def exponential() -> Elementwise:
    """φ(x) = eˣ."""
    return Elementwise("exp", np.exp, np.exp)


def gaussian() -> Elementwise:
    """φ(x) = exp(−x²)."""
    return Elementwise("gaussian", lambda x: np.exp(-(x**2)), lambda x: -2 * x * np.exp(-(x**2)))


def square() -> Elementwise:
    """φ(x) = x²."""
    return Elementwise("square", np.square, lambda x: 2 * x)


def error_function() -> Elementwise:
    """φ(x) = erf(x)."""
    return Elementwise("erf", erf, _erf_slope)


def arctangent() -> Elementwise:
    """φ(x) = arctan(x)."""
    return Elementwise("atan", np.arctan, lambda x: 1 / (1 + x**2))


# -- helpers ------------------------------------------------------------------


def expit(x: Array) -> Array:
    """1 / (1 + e^{−x}), with all its digits in the far tails."""
    return np.asarray(np.exp(-np.logaddexp(0, -x)))


def erf(x: Array) -> Array:
    """The error function. SciPy has it too, but takes a quarter of a second to import: `stepzero.gain("gelu")` should not wait."""
    return np.asarray(_ERF(x), dtype=np.float64)


def _gelu_exact() -> Elementwise:
    def cdf(x: Array) -> Array:
        return np.asarray((1 + erf(x / np.sqrt(2))) / 2)

    return Elementwise("gelu", lambda x: x * cdf(x), lambda x: cdf(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi))


def _erf_slope(x: Array) -> Array:
    return np.asarray(2 / np.sqrt(np.pi) * np.exp(-(x**2)))


_GELUS: Mapping[str, Callable[[], Elementwise]] = MappingProxyType({"none": _gelu_exact, "tanh": gelu_tanh})
_ERF = np.frompyfunc(math.erf, 1, 1)
