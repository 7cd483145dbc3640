"""The exponential of what cannot be positive: the decay of a state-space model, bounded by 1."""

from __future__ import annotations

import torch
from torch import Tensor

from stepzero.moments import _pointwise as P
from stepzero.moments._activations import pointwise
from stepzero.moments._call import Call, Rule
from stepzero.moments._hidden import hidden, seen
from stepzero.moments._signal import Moments, Signal
from stepzero.moments._signs import sign

LEAST = 1e-300


def exponential(call: Call) -> Signal:
    """exp(x): pointwise of a Gaussian; of a sum of negative terms (Δ·A, Gu & Dao 2023, §3.2) as of minus a Gamma variable.

    A Gaussian of the same moments would be positive at times and its exponential endless. With y = -x of mean m and
    variance v, shape k = m²/v and scale θ = v/m: E[e^(-y)] = (1 + θ)^-k, E[e^(-2y)] = (1 + 2θ)^-k; a pair of
    correlation ρ shares ρk of the shape: E[e^(-y-y')] = (1 + 2θ)^(-ρk)·(1 + θ)^(-2(1-ρ)k). Places of minus infinity, which
    a mask put there, become 0. Running sums of softplus(z)·a, a ≤ 4: one step within 8 %, all within 0.02 of what is drawn.
    """
    x = call.need(call.main)
    behind = hidden(x)
    if P.root_of(x)[1] is not P.IDENTITY or not (bool(behind.any()) or sign(call.graph, call.node.inputs[0]) < 0):
        return pointwise(call)
    shown = seen(x.moments, behind)
    y = _decayed(shown) if sign(call.graph, call.node.inputs[0]) < 0 else _of_gaussian(x, shown)
    m = y.each(lambda t: torch.where(behind, 0.0, t))
    change = None
    if x.tangent is not None:  # the function is its own derivative
        c = x.tangent
        change = Moments(c.mean, *(torch.where(behind, 0.0, d) * k for d, k in zip(c[1:], m[1:], strict=True)))
    return Signal(call.shape, x.roles, m, change)


def _of_gaussian(x: Signal, shown: Moments) -> Moments:
    return P.apply(P.Pointwise("exp", torch.exp), Signal(x.shape, x.roles, shown)).moments


def _decayed(m: Moments) -> Moments:
    mean, second = -m.mean, m.second
    square = mean.square()
    variance = (second - square).clamp_min(LEAST)
    shape, scale = square / variance, variance / mean.clamp_min(LEAST)
    once, twice = torch.log1p(scale), torch.log1p(2 * scale)

    def pair(t: Tensor) -> Tensor:
        rho = ((t - square) / variance).clamp(0.0, 1.0)
        return torch.exp(-shape * (rho * twice + 2 * (1 - rho) * once))

    return Moments(torch.exp(-shape * once), *(pair(t) for t in m[1:]))


DECAYS: dict[str, Rule] = {"exp": exponential}
