"""Activations with kinks: the ReLU family, the hard and the shrunk ones, and the exponential ones."""

from __future__ import annotations

import numpy as np

from stepzero.errors import ActivationError

from ._elementwise import Array, Elementwise, Function, bends, number


def identity() -> Elementwise:
    """φ(x) = x."""
    return Elementwise("identity", lambda x: x, np.ones_like)


def relu() -> Elementwise:
    """φ(x) = max(x, 0)."""
    return Elementwise("relu", lambda x: np.maximum(x, 0), indicator(0.0, np.inf), (0.0,))


def leaky_relu(negative_slope: float = 0.01) -> Elementwise:
    """φ(x) = x for x > 0, else a·x."""
    a = number("leaky_relu", "negative_slope", negative_slope)
    return Elementwise(
        f"leaky_relu({a:g})", lambda x: np.where(x > 0, x, a * x), lambda x: np.where(x > 0, 1.0, a), (0.0,)
    )


def threshold(at: float, value: float) -> Elementwise:
    """φ(x) = x for x > at, else value."""
    at, value = number("threshold", "threshold", at), number("threshold", "value", value)
    name = f"threshold({at:g}, {value:g})"
    return Elementwise(name, lambda x: np.where(x > at, x, value), indicator(at, np.inf), (at,), jumps=at != value)


def hardtanh(low: float = -1.0, high: float = 1.0) -> Elementwise:
    """φ(x) = x between low and high, constant outside."""
    low, high = number("hardtanh", "min_val", low), number("hardtanh", "max_val", high)
    if low >= high:
        raise ActivationError(f"hardtanh: min_val={low!r} is not below max_val={high!r}.")
    name = "hardtanh" if (low, high) == (-1, 1) else f"hardtanh({low:g}, {high:g})"
    return Elementwise(name, lambda x: np.clip(x, low, high), indicator(low, high), (low, high))


def relu6() -> Elementwise:
    """φ(x) = min(max(x, 0), 6)."""
    return Elementwise("relu6", lambda x: np.clip(x, 0, 6), indicator(0.0, 6.0), (0.0, 6.0))


def hardsigmoid() -> Elementwise:
    """φ(x) = relu6(x + 3) / 6."""
    inside = indicator(-3.0, 3.0)
    return Elementwise("hardsigmoid", lambda x: np.clip(x + 3, 0, 6) / 6, lambda x: inside(x) / 6, (-3.0, 3.0))


def softshrink(at: float = 0.5) -> Elementwise:
    """φ(x) = x shrunk towards 0 by `at`."""
    at = number("softshrink", "lambd", at)
    if at < 0:
        raise ActivationError(f"softshrink: lambd={at!r} is negative.")
    return Elementwise(f"softshrink({at:g})", lambda x: x - np.clip(x, -at, at), _outside(at), (-at, at))


def hardshrink(at: float = 0.5) -> Elementwise:
    """φ(x) = x where |x| > at, else 0; torch reads a negative `at` as 0."""
    at = abs(number("hardshrink", "lambd", at))
    return Elementwise(
        f"hardshrink({at:g})", lambda x: np.where(np.abs(x) > at, x, 0.0), _outside(at), (-at, at), jumps=at > 0
    )


def absolute() -> Elementwise:
    """φ(x) = |x|."""
    return Elementwise("abs", np.abs, np.sign, (0.0,))


# -- piecewise smooth ---------------------------------------------------------


def relu_squared() -> Elementwise:
    """φ(x) = max(x, 0)² (So et al. 2021, Primer)."""
    return Elementwise("relu_squared", lambda x: np.maximum(x, 0) ** 2, lambda x: 2 * np.maximum(x, 0), (0.0,))


def hardswish() -> Elementwise:
    """φ(x) = x·relu6(x + 3) / 6 (Howard et al. 2019)."""

    def slope(x: Array) -> Array:
        return np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, (2 * x + 3) / 6))

    return Elementwise("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6, slope, (-3.0, 3.0))


def elu(alpha: float = 1.0) -> Elementwise:
    """φ(x) = x for x > 0, else α(eˣ − 1) (Clevert et al. 2016)."""
    a = number("elu", "alpha", alpha)
    return Elementwise("elu" if a == 1 else f"elu({a:g})", *_exponential_below(1.0, a, 1.0), (0.0,))


def celu(alpha: float = 1.0) -> Elementwise:
    """φ(x) = x for x > 0, else α(e^{x/α} − 1) (Barron 2017)."""
    a = number("celu", "alpha", alpha)
    if a == 0:
        raise ActivationError("celu: alpha=0 divides by zero.")
    return Elementwise("celu" if a == 1 else f"celu({a:g})", *_exponential_below(1.0, a, a), (*bends(1 / a), 0.0))


def selu() -> Elementwise:
    """φ(x) = λ·elu(x; α), whose mean is 0 and second moment 1 at N(0, 1) (Klambauer et al. 2017)."""
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    return Elementwise("selu", *_exponential_below(scale, scale * alpha, 1.0), (0.0,))


def softsign() -> Elementwise:
    """φ(x) = x / (1 + |x|)."""
    return Elementwise("softsign", lambda x: x / (1 + np.abs(x)), lambda x: (1 + np.abs(x)) ** -2.0, (0.0,))


def sparse_plus() -> Elementwise:
    """φ(x) = 0 below −1, (x + 1)²/4 up to 1, x above."""
    return Elementwise(
        "sparse_plus",
        lambda x: np.where(x >= 1, x, np.maximum(x + 1, 0) ** 2 / 4),
        lambda x: np.clip((x + 1) / 2, 0, 1),
        (-1.0, 1.0),
    )


def sparse_sigmoid() -> Elementwise:
    """φ(x) = (x + 1)/2 clipped to 0 … 1, the derivative of sparse_plus."""
    inside = indicator(-1.0, 1.0)
    return Elementwise("sparse_sigmoid", lambda x: np.clip((x + 1) / 2, 0, 1), lambda x: inside(x) / 2, (-1.0, 1.0))


# -- helpers ------------------------------------------------------------------


def _exponential_below(scale: float, height: float, length: float) -> tuple[Function, Function]:
    """scale·x above 0, height·(e^{x/length} − 1) below, and the derivative."""

    def value(x: Array) -> Array:
        return np.where(x > 0, scale * x, height * np.expm1(np.minimum(x, 0) / length))

    def slope(x: Array) -> Array:
        return np.where(x > 0, scale, height / length * np.exp(np.minimum(x, 0) / length))

    return value, slope


def indicator(low: float, high: float) -> Function:
    """The indicator of low < x < high."""
    return lambda x: ((x > low) & (x < high)).astype(np.float64)


def _outside(at: float) -> Function:
    """The indicator of |x| > at."""
    return lambda x: (np.abs(x) > at).astype(np.float64)
