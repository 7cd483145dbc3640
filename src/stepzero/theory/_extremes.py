"""The largest of k equally correlated Gaussians, seen through a pointwise function: what max pooling puts out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr

from stepzero.theory._hermite import ORDER, Expansion, ValueAndSlope, _closed, _polynomials
from stepzero.theory._panels import legendre, panels

Array = NDArray[np.float64]

_COMMON_NODES = 24  # Gauss–Hermite nodes for the part that a window shares
_LOW, _HIGH = -6.0, 8.5  # where the largest of 2 … 10^6 standard normals lives


def expand_maximum(
    phi: ValueAndSlope, kinks: tuple[float, ...], mean: Array, sd: Array, rho: Array, count: Array
) -> Expansion:
    r"""Return the expansion of φ(max_i x_i), x_i = mean + sd·(√ρ·a + √(1-ρ)·ε_i), in the shared part a.

    Given a, the ε_i are independent, so P(max ≤ t) = Φ(·)^k; the coefficients b_n = E[E[φ(max) | a] h_n(a)] give
    E[φ(max) φ(max')] = Σ b_n² rⁿ for another window whose shared part correlates with this one by r. The second
    moment is that of one window (so the last coefficient is not closed: within-window noise is private).
    Exact for increasing φ; an approximation where φ dips (gelu, silu: below 1 % for k ≤ 9).

    Args:
        phi: Returns value and derivative.
        kinks: Where φ or φ' jumps.
        mean: Shape (rows,), like all others.
        sd: Standard deviations.
        rho: Correlation of any two members of a window, in [0, 1].
        count: Members of the window, ≥ 1 (a fraction is allowed).
    """
    a, mass_a = np.polynomial.hermite_e.hermegauss(_COMMON_NODES)
    mass_a = mass_a / np.sqrt(2.0 * np.pi)
    rho = np.clip(rho, 0.0, 1.0 - 1e-9)
    shared, own = sd * np.sqrt(rho), sd * np.sqrt(1.0 - rho)
    centre = mean[:, None] + shared[:, None] * a  # (rows, a)
    spread = np.maximum(own, 1e-300)[:, None]
    corners = np.array(kinks)[None, None, :]
    cuts = ((corners - centre[..., None]) / spread[..., None]).reshape(centre.size, -1)
    u, w = panels(cuts, _LOW, _HIGH, width=3.0, nodes=12)
    k = np.repeat(count, _COMMON_NODES)[:, None]
    density = w * k * np.exp(-0.5 * u * u) / np.sqrt(2.0 * np.pi) * ndtr(u) ** (k - 1.0)
    x = centre.reshape(-1, 1) + np.repeat(own, _COMMON_NODES)[:, None] * u
    value, slope = phi(x)

    def over_window(y: Array) -> Array:
        return np.asarray(np.sum(density * y, axis=1).reshape(centre.shape))

    given_a = over_window(value)
    b = np.stack([given_a @ (mass_a * h) for h in _polynomials(a, ORDER)], axis=1)
    shared_second = given_a**2 @ mass_a
    b = _closed(b, shared_second, shared_second).coefficients
    return Expansion(b, over_window(value**2) @ mass_a, over_window(slope**2) @ mass_a)


def overlap(
    phi: ValueAndSlope, kinks: tuple[float, ...], mean: float, sd: float, rho: float, count: float, common: float
) -> float:
    r"""Return the correlation of φ(max) of two windows that have members in common, beyond what the shared part makes.

    Given the shared part and m, the largest common member, both windows are independent: with h(m) = E[φ(max(m, M))],
    M the largest of a window's other members, E[φ(max) φ(max')] = E[h(m)²]. The result is 0 for windows that only
    share the part in `rho`, and 1 for the same window.

    Args:
        phi: Returns value and derivative.
        kinks: Where φ or φ' jumps.
        mean: Of every member.
        sd: Standard deviation of every member.
        rho: Correlation of any two members, in [0, 1].
        count: Members of each window.
        common: How many of them both have, 0 ≤ common ≤ count.
    """
    if not 0.0 < common < count or sd <= 0.0:
        return 0.0 if common <= 0.0 or sd <= 0.0 else 1.0
    a, mass = np.polynomial.hermite_e.hermegauss(_COMMON_NODES)
    mass = mass / np.sqrt(2.0 * np.pi)
    rho = min(max(rho, 0.0), 1.0 - 1e-9)
    centre, own = mean + sd * np.sqrt(rho) * a, sd * np.sqrt(1.0 - rho)
    u, w = panels((np.array(kinks)[None, :] - centre[:, None]) / own, _LOW, _HIGH, width=1.0, nodes=8)  # (a, u)
    bell = w * np.exp(-0.5 * u * u) / np.sqrt(2.0 * np.pi)

    def density(k: float) -> Array:
        return np.asarray(bell * k * ndtr(u) ** (k - 1.0))

    y = phi(centre[:, None, None] + own * np.maximum(u[:, :, None], u[:, None, :]))[0]  # (a, u, u)
    h = np.einsum("aij,aj->ai", y, density(count - common))
    product = mass @ np.sum(density(common) * h**2, axis=1)
    value = phi(centre[:, None] + own * u)[0]
    shared = mass @ np.sum(density(count) * value, axis=1) ** 2
    second = mass @ np.sum(density(count) * value**2, axis=1)
    return float(np.clip((product - shared) / (second - shared), 0.0, 1.0)) if second > shared * (1 + 1e-9) else 0.0


def mean_inverse(rho: float, taps: float, fan: float) -> float:
    r"""Return E[v]·E[1/v] for v = Σ w_i w_j C_ij with `fan` Gaussian weights w, C of correlation ρ within `taps` of them.

    By E[1/v] = ∫₀^∞ Π_i (1 + 2tλ_i)^(-1/2) dt over the eigenvalues λ of C: 1 + (taps - 1)ρ once and 1 - ρ
    (taps - 1) times, for each of fan/taps channels. For ρ = 0 that is fan/(fan - 2): 9/7 for a depthwise 3×3.

    Args:
        rho: Correlation of inputs that share a channel, in [0, 1).
        taps: Weights that read one channel, ≥ 1.
        fan: All weights of an output, > 2.
    """
    times = np.array([1.0, max(taps - 1.0, 0.0)]) * fan / taps
    values = np.array([1.0 + max(taps - 1.0, 0.0) * rho, 1.0 - rho])
    u, w = legendre(64)  # t = u² / (1 - u)² · 1/fan takes [0, 1) to [0, ∞)
    t = (u / (1.0 - u)) ** 2 / fan
    jacobian = 2.0 * u / (1.0 - u) ** 3 / fan
    integrand = np.exp(-0.5 * np.sum(times[:, None] * np.log1p(2.0 * t * values[:, None]), axis=0))
    return float(np.sum(w * integrand * jacobian) * np.sum(times * values))


def mean_inverse_of_one(eps: float) -> float:
    r"""Return E[v + ε]·E[1/(v + ε)] for v = w² with one Gaussian weight w of variance 1: √(π/2ε) for small ε.

    E[1/(w² + ε)] = ∫₀^∞ e^(-εt) (1 + 2t)^(-1/2) dt = √(π/2ε)·e^(ε/2)·erfc(√(ε/2)): without ε it is endless. Nearly all of
    it comes from weights |w| < √ε, of which there are 2 in 1000 at ε = 1e-5.

    Args:
        eps: ε > 0, in units of the variance that w has on average.

    Examples:
        >>> round(mean_inverse_of_one(1e-5))  # what a 1×1 depthwise convolution in front of a batch norm has
        395
    """
    root = np.sqrt(eps / 2.0)
    return float((1.0 + eps) * np.sqrt(np.pi) / 2.0 / root * erfcx(root))
