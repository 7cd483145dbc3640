"""How the mean square of a weight op scatters for the input that it got: a weighted sum of χ², its weights from the windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign, inf, log, prod, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor

from stepzero.moments import OPERATORS, Call, Flow, input_argument, weight_argument
from stepzero.moments._propagate import Fixed
from stepzero.network import Node

MOST_CHANNELS = 128  # beyond, the mean over channels is normal enough for its first two moments
MOST_ELEMENTS = 1 << 24  # of all windows together
MOST_SITES = 384  # windows that enter the spectrum


@dataclass(frozen=True, slots=True)
class Scatter:
    """The law of measured over expected, Σ w χ²_d / Σ w d: each weight stands for d independent squares.

    For Gaussian weights and a given input, each channel's outputs are a Gaussian vector whose covariance is the Gram matrix of the
    windows, so their mean square is a sum of χ² weighted by its eigenvalues, and channels of a group are independent copies.
    """

    weights: NDArray[np.float64]
    degrees: float

    @classmethod
    def alike(cls, channels: int, alike: float) -> Scatter:
        """Return the law of χ² that has the right variance (Satterthwaite 1946), from the sites' mean squared correlation."""
        return cls(np.ones(1), channels / alike)

    @property
    def variance(self) -> float:
        """Relative variance."""
        total = self.degrees * float(self.weights.sum())
        return 2.0 * self.degrees * float(np.square(self.weights).sum()) / total**2

    def wider(self, variance: float) -> Scatter:
        """Return the law with a relative variance of the weight's own scale added: χ² of as much variance as both."""
        return Scatter(np.ones(1), 2.0 / (self.variance + variance)) if variance else self


def scatter(flow: Flow, node: Node, x: Tensor, channels: int, *, centred: bool) -> Scatter | None:
    """Return how E[y²] scatters over an op's weights for an input; None where its windows are too many to hold."""
    if channels > MOST_CHANNELS:
        return None
    rows = _windows(flow, node, x)
    if rows is None:
        return None
    step = max(1, rows.shape[1] // MOST_SITES)
    rows = rows[:, ::step].double()
    if centred:
        rows = rows - rows.mean(-1, keepdim=True)
    gram = rows @ rows.mT if rows.shape[1] < rows.shape[2] else rows.mT @ rows
    values = torch.linalg.eigvalsh(gram).clamp_min(0.0).flatten().numpy()
    values = values[values > 1e-9 * values.max()] if values.max() > 0 else values[:0]
    return Scatter(values, channels / rows.shape[0]) if values.size else None


def _windows(flow: Flow, node: Node, x: Tensor) -> Tensor | None:
    """Return the inputs that reach each output, (groups, sites, fan): the op itself with one weight at a time."""
    if not node.op.startswith("conv"):
        return x.detach().reshape(1, -1, x.shape[-1])
    xi, wi = input_argument(node), weight_argument(node)
    assert xi is not None
    assert wi is not None
    shape = flow.graph.values[wi].shape
    groups, taps = int(node.arguments.get("groups", 1)), prod(shape[2:])
    members = x.shape[1] // groups
    fan = members * taps
    places = prod(flow.graph.values[node.outputs[0]].shape[2:])
    inputs = MOST_ELEMENTS // max(1, groups * fan * places)
    if not inputs:
        return None
    one = torch.eye(fan, dtype=x.dtype).reshape(fan, members, *shape[2:])
    transposed = node.op.startswith("conv_transpose") or bool(node.arguments.get("transposed"))
    one = one.transpose(0, 1) if transposed else one
    op = OPERATORS[node.op](Call(flow.graph, node, flow.signals, Fixed()), flow.signals[xi], flow.signals[wi])
    y = op.given(x.detach()[:inputs], one.repeat(groups, *(1,) * (one.dim() - 1)))
    return y.reshape(y.shape[0], groups, fan, -1).permute(1, 0, 3, 2).reshape(groups, -1, fan)


def z_of(ratios: Sequence[float], laws: Sequence[Scatter]) -> float:
    """Return how many standard deviations of a normal the mean of measured over expected stands out.

    By the saddle point of the sum of weighted χ², r* = w + log(u/w)/w (Barndorff-Nielsen 1986; Kuonen 1999), which holds far out in
    both tails, where a χ² of the same variance does not.
    """
    weights = np.concatenate([law.weights / (law.degrees * law.weights.sum()) for law in laws]) / len(laws)
    degrees = np.concatenate([np.full(law.weights.size, law.degrees) for law in laws])
    ratio = sum(ratios) / len(ratios)
    if ratio <= 0:
        return -inf
    top = 0.5 / float(weights.max())

    def slope(s: float) -> float:
        return float((degrees * weights / (1 - 2 * s * weights)).sum()) - ratio

    low = -1.0
    while slope(low) > 0:
        low *= 2
    s = float(brentq(slope, low, top * (1 - 1e-12)))
    cumulant = -0.5 * float((degrees * np.log1p(-2 * s * weights)).sum())
    curvature = 2 * float((degrees * (weights / (1 - 2 * s * weights)) ** 2).sum())
    w = copysign(sqrt(max(2 * (s * ratio - cumulant), 0.0)), s)
    if abs(w) < 1e-3:  # at the mean: skewness/6
        return float(8 * (degrees * weights**3).sum() / (6 * curvature**1.5))
    return float(w + log(s * sqrt(curvature) / w) / w)
