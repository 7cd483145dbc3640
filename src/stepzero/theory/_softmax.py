"""Softmax rows of independent Gaussian logits: how concentrated they are and how open to change, exactly."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST = 100.0  # beyond this variance a row is as concentrated as at it


class Openness(NamedTuple):
    """What a softmax row does to independent values, and to independent small changes of its logits."""

    concentration: Array  # E[Σ p²]: the second moment of a mixture of white values
    jacobian: Array  # E[Σ p²(1 - 2p + Σp²)]: that of Σ p_j δ_j (v_j - o), for white δ and v


def concentration(terms: float, variance: float) -> float:
    r"""Return E[Σ_j p_j²] of a softmax over `terms` independent N(0, variance) logits.

    Its limit e^variance / T needs variance < ln(T)/2.

    Args:
        terms: Number of logits T ≥ 1.
        variance: Of each logit, ≥ 0; beyond 100 the row is as concentrated as at 100.

    Examples:
        >>> concentration(4, 0.0)
        0.25
        >>> round(concentration(256, 1.0), 5)   # the limit e/256 is 0.0106
        0.01033
    """
    return float(openness(np.array([terms]), variance).concentration[0])


def openness(terms: Array, variance: float) -> Openness:
    r"""Return E[Σ p²] and E[Σ p²(1 - 2p + Σp²)] of softmax rows of several lengths.

    With 1/Sⁿ = ∫₀^∞ t^(n-1) e^(-tS) dt / Γ(n) for S = Σ e^(l_j), and φₙ(t) = E[e^(nl) exp(-t e^l)]:
    E[Σ pⁿ] = T ∫ t^(n-1) φₙ φ₀^(T-1) dt / Γ(n), and for the pairs in (Σp²)² the same with φ₂² φ₀^(T-2).

    Args:
        terms: Numbers of logits, each ≥ 1.
        variance: Of each logit, ≥ 0.
    """
    terms = np.maximum(np.asarray(terms, dtype=np.float64), 1.0)
    even = Openness(1.0 / terms, 1.0 / terms - 1.0 / terms**2)
    if variance < 1e-8:
        return even
    log0, (two_same, three_same, four_same), step = _transforms(min(float(variance), MOST))
    n = terms[..., None]
    rest = step * np.exp((n - 1.0) * log0)
    second = terms * (rest @ two_same)
    third = terms * (rest @ three_same) / 2.0
    fourth = terms * (rest @ four_same) / 6.0
    two = step * np.exp(np.maximum(n - 2.0, 0.0) * log0)  # all terms but two
    pairs = terms * (terms - 1.0) * (two @ two_same**2) / 6.0
    alone = terms <= 1.0
    return Openness(
        np.where(alone, 1.0, np.clip(second, 1.0 / terms, 1.0)),
        np.where(alone, 0.0, np.clip(second - 2.0 * third + fourth + pairs, 0.0, 1.0)),
    )


@lru_cache(maxsize=256)
def _transforms(variance: float) -> tuple[Array, tuple[Array, Array, Array], float]:
    """Return log φ₀(t), tⁿ φₙ(t) for n = 2, 3, 4 on a logarithmic grid of t, and its step in log t.

    tⁿ φₙ = E[uⁿ e^(-u)] at u = t e^l stays bounded where tⁿ and φₙ do not; beyond u = e⁷ it is 0 to the last digit.
    """
    sd = variance**0.5
    z = np.linspace(-9.0, 9.0 + 4.0 * sd, 420)
    mass = np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi) * (z[1] - z[0])
    x, step = np.linspace(-30.0 - 4.0 * sd, 12.0 + 3.0 * variance, 640, retstep=True)
    u = np.exp(np.minimum(x[:, None] + sd * z, 7.0))
    weight = np.exp(-u)
    log0 = np.log(np.maximum(weight @ mass, 1e-300))
    weight *= u
    two, three, four = (np.multiply(weight, u, out=weight) @ mass for _ in range(3))
    return log0, (two, three, four), float(step)
