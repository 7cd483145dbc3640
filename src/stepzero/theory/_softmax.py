"""How concentrated a softmax row is: E[Σ p²] for independent Gaussian logits, exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def concentration(terms: float, variance: float) -> float:
    r"""Return E[Σ_j p_j²] of a softmax over `terms` independent N(0, variance) logits.

    With 1/S² = ∫₀^∞ t e^(-tS) dt for S = Σ e^(l_j): E[Σ p²] = T ∫₀^∞ t φ₂(t) φ₀(t)^(T-1) dt, where
    φ₀(t) = E[exp(-t e^l)] and φ₂(t) = E[e^(2l) exp(-t e^l)] (its limit e^variance / T needs variance < ln(T)/2).

    Args:
        terms: Number of logits T ≥ 1.
        variance: Of each logit, ≥ 0; beyond 100 the row is as concentrated as at 100.

    Examples:
        >>> concentration(4, 0.0)
        0.25
        >>> round(concentration(256, 1.0), 5)   # the limit e/256 is 0.0106
        0.01033
    """
    if terms <= 1.0:
        return 1.0
    if variance < 1e-8:
        return 1.0 / terms
    variance = min(variance, 100.0)
    sd = float(np.sqrt(variance))
    z, mass = _normal_grid(sd)
    x, step = np.linspace(-40.0, 12.0 + 3.0 * variance, 700, retstep=True)  # log t, from 1/S downwards
    t = np.exp(x - np.log(terms))[:, None]
    damped = np.exp(-t * np.exp(sd * z))
    phi0 = damped @ mass
    phi2 = (damped * np.exp(2.0 * sd * z)) @ mass
    integrand = t[:, 0] ** 2 * phi2 * np.exp((terms - 1.0) * np.log(np.maximum(phi0, 1e-300)))
    return float(np.clip(terms * np.sum(integrand) * step, 1.0 / terms, 1.0))


def _normal_grid(sd: float) -> tuple[Array, Array]:
    """Trapezoid nodes and weights of N(0, 1), wide enough for e^(2·sd·z)."""
    z = np.linspace(-9.0, 9.0 + 2.0 * sd, 360)
    return z, np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi) * (z[1] - z[0])
