"""Gains: by what a weight layer has to make up for its activation, exactly, and what that means for depth."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from stepzero.errors import ActivationError

from ._activations import unit
from ._callables import FINEST
from ._elementwise import Array, Elementwise
from ._gaussian import NODES, nodes
from ._legendre import differentiation, rule
from ._units import Unit

Verdict = Literal["stable", "marginal", "unstable"]


@dataclass(frozen=True, slots=True)
class Stability:
    """What becomes of a small error in the second moment, layer after layer.

    Args:
        slope: Derivative of the length map at its fixed point q = 1: an error is multiplied by it in each layer.
        verdict: stable (slope < 1), marginal (= 1: positively homogeneous activations) or unstable (> 1).
        consequence: What follows for a deep plain net, forward and backward, in words.
    """

    slope: float
    verdict: Verdict
    consequence: str

    def __float__(self) -> float:
        return self.slope

    def __str__(self) -> str:
        return f"{self.verdict} (slope {self.slope:.4f}): {self.consequence}"


@dataclass(frozen=True, slots=True)
class Activation:
    """What an activation does to a standard normal preactivation.

    Args:
        name: What people call it, with its settings.
        mean: E[φ(z)].
        second_moment: E[φ(z)²]; for a gated product a·φ(b) that of the product.
        gradient_second_moment: E[φ'(z)²]; for a gated product the average over its two inputs.
        fourth_moment: E[φ(z)⁴].
        chi: Factor on the second moment of gradients per layer when the forward pass is held (Schoenholz et al. 2017).
        stability: What becomes of errors with depth.
        unit: The functions behind it.
    """

    name: str
    mean: float
    second_moment: float
    gradient_second_moment: float
    fourth_moment: float
    chi: float
    stability: Stability
    unit: Unit = field(compare=False)

    @property
    def gain(self) -> float:
        """1/√E[φ²]: Var[w] = gain²/fan_in holds the forward second moment (He et al. 2015, eq. 10)."""
        return math.sqrt(1 / self.second_moment)

    @property
    def gradient_gain(self) -> float:
        """1/√E[φ'²]: Var[w] = gain²/fan_out holds the backward one (He et al. 2015, eq. 14); inf if no gradient passes."""
        return math.sqrt(1 / self.gradient_second_moment) if self.gradient_second_moment else math.inf

    @property
    def variance_gain(self) -> float:
        """1/√Var[φ]: right only before something that subtracts the mean (Brock et al. 2021, NFNet); inf if φ is constant."""
        variance = self.second_moment - self.mean**2
        return 1 / math.sqrt(variance) if variance > 1e-14 * self.second_moment else math.inf

    @property
    def noise(self) -> float:
        """E[φ⁴]/E[φ²]² − 1: one layer of n units scatters by noise/n around the prediction (5 for ReLU)."""
        return self.fourth_moment / self.second_moment**2 - 1

    @property
    def correlation_floor(self) -> float:
        """E[φ]²/E[φ²]: the correlation that two unrelated inputs have after one layer (1/π for ReLU)."""
        return self.mean**2 / self.second_moment

    def to_dict(self) -> dict[str, Any]:
        """Return every number as plain data; a gain that does not exist is None."""
        numbers = {
            name: getattr(self, name)
            for name in ("gain", "gradient_gain", "variance_gain", "mean", "second_moment", "gradient_second_moment",
                         "fourth_moment", "chi", "noise", "correlation_floor")
        }  # fmt: skip
        stability = {
            "slope": self.stability.slope,
            "verdict": self.stability.verdict,
            "consequence": self.stability.consequence,
        }
        return {
            "name": self.name,
            **{name: number if math.isfinite(number) else None for name, number in numbers.items()},
            "stability": stability,
        }

    def __repr__(self) -> str:
        return (
            f"Activation({self.name!r}, gain={self.gain:.8f}, gradient_gain={self.gradient_gain:.8f}, "
            f"chi={self.chi:.6f}, {self.stability.verdict})"
        )


def gain(nonlinearity: Any, param: Any = None) -> float:
    """Return 1/√E[φ(z)²], z ~ N(0, 1): the factor by which weights hold the second moment through φ.

    Args:
        nonlinearity: A name in torch's, Keras's or JAX's spelling, an activation module, or a pointwise function.
        param: Settings of a named activation: a number, a tuple in the order of torch's arguments, or a dict.

    Raises:
        ActivationError: if it is unknown, not elementwise, not finite, random, or zero.

    Examples:
        >>> round(gain("relu") ** 2, 12)   # half of a symmetric signal survives
        2.0
        >>> round(gain("tanh"), 8)   # torch's 5/3 is a rounded fixed point
        1.59253742
    """
    return activation(nonlinearity, param).gain


def activation(nonlinearity: Any, param: Any = None) -> Activation:
    """Return what an activation does to a standard normal preactivation: gains, mean, second moment, χ, stability.

    Args:
        nonlinearity: A name in torch's, Keras's or JAX's spelling, an activation module, or a pointwise function.
        param: Settings of a named activation: a number, a tuple in the order of torch's arguments, or a dict.

    Raises:
        ActivationError: if it is unknown, not elementwise, not finite, random, or zero.

    Examples:
        >>> activation("gelu").stability.verdict
        'unstable'
        >>> activation("leaky_relu", 0.2)
        Activation('leaky_relu(0.2)', gain=1.38675049, gradient_gain=1.38675049, chi=1.000000, marginal)
    """
    if isinstance(nonlinearity, str) and (param is None or isinstance(param, Hashable)):
        try:
            return _named(nonlinearity, param)
        except TypeError:  # a tuple with something unhashable in it
            pass
    return _measure(unit(nonlinearity, param))


@lru_cache(maxsize=512, typed=True)
def _named(name: str, param: Any) -> Activation:
    return _measure(unit(name, param))


def _measure(of: Unit) -> Activation:
    """Integrate every part, average, and turn a gate's integrals into those of the product."""
    parts = np.array([share * _integrals(function) for share, function in of.parts])
    mean, second, fourth, slope_second, growth = map(float, parts.sum(axis=0))
    if second <= 0:
        raise ActivationError(f"{of.name} is zero almost everywhere: no weight can make up for it.")
    slope_second = slope_second if slope_second > 1e-24 * second else 0.0  # what differentiating a constant leaves
    mean, growth = _rounded(mean, math.sqrt(second)), _rounded(growth, second)
    second, fourth, slope_second = map(_rounded, (second, fourth, slope_second))
    length_slope, chi = growth / second, slope_second / second
    if of.gated:  # a and b are independent: E[(aφ)²] = E[φ²], ∂/∂a gives φ², ∂/∂b gives a²φ'²
        mean, fourth, slope_second = 0.0, 3 * fourth, (second + slope_second) / 2
        length_slope, chi = 1 + length_slope, 1 + chi
    return Activation(of.name, mean, second, slope_second, fourth, chi, _stability(length_slope, chi), of)


def _rounded(total: float, scale: float = 0.0) -> float:
    """Drop the sixteenth digit, of the total or of its scale, which is noise: relu then has 0.5, and tanh the mean 0."""
    return 0.0 if abs(total) < 1e-15 * scale else float(f"{total:.15g}")


def _integrals(function: Elementwise) -> Array:
    """E[φ], E[φ²], E[φ⁴], E[φ'²] and dE[φ(√q z)²]/dq at q = 1.

    The last is E[φ²(z² − 1)]/2: by Stein's lemma it needs no derivative, so it is right across jumps too.
    """
    z, weight = nodes(0.0, 1.0, function.kinks)
    value = function.value(z)
    slope = _slope(function, z, value)
    square = value**2
    integrands = (value, square, square**2, slope**2, square * (z**2 - 1) / 2)
    return np.array([np.sum(weight * integrand) for integrand in integrands])


def _slope(function: Elementwise, z: Array, value: Array) -> Array:
    """φ' at the quadrature points: as given, or of each panel's interpolant."""
    if function.derivative is not None:
        return function.derivative(z)
    panels, points = value.reshape(-1, NODES), z.reshape(-1, NODES)
    half = (points[:, -1] - points[:, 0]) / _SPAN
    wide = half > FINEST  # a narrower panel holds a kink or a jump, which no gradient sees
    slopes = panels @ _DIFFERENTIATE.T / np.where(wide, half, 1.0)[:, None]
    return np.asarray((slopes * wide[:, None]).ravel())


def _stability(slope: float, chi: float) -> Stability:
    """Put the two slopes into words."""
    if abs(abs(slope) - 1) < 1e-6:
        return Stability(slope, "marginal", f"an error in the second moment stays as it is; {_backward(chi)}")
    if abs(slope) < 1:
        return Stability(
            slope, "stable", f"an error in the second moment shrinks by ×{slope:.3f} per layer; {_backward(chi)}"
        )
    layers = math.ceil(math.log(math.log(2) / 0.01) / math.log(abs(slope)))
    text = (
        f"an error of 1 % in the second moment grows to a factor 2 within {layers} layers without normalisation: "
        "set each layer from the second moment that reaches it, not from a constant gain"
    )
    return Stability(slope, "unstable", f"{text}; {_backward(chi)}")


def _backward(chi: float) -> str:
    if abs(chi - 1) < 1e-6:
        return "gradients are held as well."
    if chi == 0:
        return "no gradient passes."
    trend = "grow" if chi > 1 else "shrink"
    over_50 = math.exp(min(50 * math.log(chi), 700))
    return f"gradients {trend} by ×{chi:.3f} per layer (×{over_50:.2g} over 50), so forward and backward cannot both be held."


_SPAN = float(np.ptp(rule(NODES)[0]))  # from the first to the last point of [-1, 1]
_DIFFERENTIATE = differentiation(rule(NODES)[0])
