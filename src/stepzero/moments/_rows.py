"""Softmax rows that mix values: what a row keeps of them, what two rows share, and what reaches a row from its logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._signal import Moments, Signal
from stepzero.theory._softmax import openness

EXACT_LENGTHS = 16
MOST_LEVELS = 8  # different variances of rows


@dataclass(frozen=True)
class Rows:
    """Averages over the rows of a softmax; each tensor has one number for all rows, or one for each."""

    own: Tensor  # E[Σ p²]
    far: Tensor  # E[Σ p p'] with any other row
    beside: Tensor  # the same with the next row
    jacobian: Tensor  # E[Σ p²(1 - 2p + Σp²)]
    variance: float  # of the logits in a row, on average
    alike: tuple[float, float]  # correlation of the logits of two rows: any two, neighbours

    @classmethod
    def of(cls, seen: Tensor, variance: float | Tensor, alike: tuple[float, float], width: int) -> Rows:
        """Describe rows that see the given keys.

        Args:
            seen: Shape (queries, keys), or (1, keys) where all see alike: 1 for a key that is seen, 0 for a hidden one.
            variance: τ² of the logits in a row: of all rows, or of each (a class token of tiny values has even rows).
            alike: Correlation of two rows' logits: any two rows, neighbouring ones.
            width: Of a query: its length, and so τ², scatters by χ² of that many degrees (two nodes stand for it).
        """
        level, count = _levels(variance)
        if len(level) > 1:
            seen = seen.expand(count.numel(), seen.shape[-1])
        lengths = seen.sum(-1).clamp_min(1.0)
        scatter = min(1.0, (2.0 / width) ** 0.5)
        own, jacobian = (torch.zeros_like(lengths) for _ in range(2))
        for i, each in enumerate(level):
            rows = count == i if len(level) > 1 else slice(None)
            own[rows], jacobian[rows] = _scattered(lengths[rows], each, scatter if each else 0.0)
        far, beside = _even(seen, lengths)
        peak = (own * lengths).clamp_min(1.0)  # how far above even rows that are alike agree
        average = float(torch.as_tensor(variance).mean())
        return cls(own, far * peak ** alike[0], beside * peak ** alike[1], jacobian, average, alike)


def _levels(variance: float | Tensor) -> tuple[list[float], Tensor]:
    """Return the different variances, 5 % apart, and which of them each row has; too many are taken as one."""
    v = torch.as_tensor(variance, dtype=torch.float64).flatten()
    rounded = torch.round(torch.log(v.clamp_min(1e-6)) / 0.05)
    _, back = torch.unique(rounded, return_inverse=True)
    found = [float(v[back == i].mean()) for i in range(int(back.max()) + 1)]
    return ([float(v.mean())], back) if len(found) > MOST_LEVELS else (found, back)


def _scattered(lengths: Tensor, variance: float, scatter: float) -> tuple[Tensor, Tensor]:
    """E[Σp²] and the Jacobian's moment of rows whose variance is larger or smaller by a share."""
    different, back = np.unique(lengths.numpy(), return_inverse=True)
    nodes = [_openness(different, variance * (1 + s)) for s in ((-scatter, scatter) if scatter else (0.0,))]
    own, jacobian = (torch.from_numpy(np.mean([n[i] for n in nodes], axis=0)[back]) for i in (0, 1))
    return own, jacobian


def _openness(lengths: NDArray[np.float64], variance: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """E[Σp²] and the Jacobian's moment by length; of many lengths, those between nodes 15 % apart are interpolated."""
    if lengths.size <= EXACT_LENGTHS:
        return openness(lengths, variance)
    spaced = np.exp(np.arange(np.log(EXACT_LENGTHS), np.log(lengths[-1]), 0.15))
    nodes = np.concatenate([np.arange(1.0, EXACT_LENGTHS), spaced, lengths[-1:]])
    own, jacobian = openness(nodes, variance)
    at, know = np.log(lengths), np.log(nodes)
    total = np.exp(np.interp(at, know, np.log(own)))
    return total, total * np.interp(at, know, jacobian / own)


def _even(seen: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_j p_ij p_i'j for even rows, averaged over the other rows i', and for the row beside."""
    even = seen / lengths[:, None]
    n, own = seen.shape[0], even.square().sum(-1)
    if n == 1:
        return own, own
    beside = (even[1:] * even[:-1]).sum(-1).mean().expand(n)
    return (even @ even.sum(0) - own) / (n - 1), beside


def within(x: Signal, m: Moments) -> Tensor:
    """The mean pair moment of two tokens that one row mixes: those of the whole input, or of a window.

    Two tokens of a shifted window of side n shared their last window with a chance of 1/4 (Liu et al. 2021,
    arXiv:2103.14030): that much of what neighbours have in common beyond distant places is left on average.
    """
    windowed = any("position" in R.of(axis) for axis in x.roles[:-2])
    return m.elsewhere + (m.near - m.elsewhere) / 4 if windowed else m.elsewhere


def mixed(v: Signal, m: Moments, rows: Rows, tilt: float, keep: float) -> Moments:
    """Mix values of second moment q and pair moment e: e + (q - e)·Σp² in a row, e + (q - e)·Σ p p' between rows.

    Args:
        v: The values (…, keys, width); axes before these that hold places are windows, which share no key.
        m: Their moments, or those of a small change of them.
        rows: The rows that mix them.
        tilt: What a row gains in Σp² because values and keys were made from one input.
        keep: Share of the weights that dropout keeps.
    """
    rank = len(v.shape)
    flat = m.each(lambda t: t.mean().reshape((1,) * rank))
    mean, q, _, e, a, d = flat
    w = within(v, flat)
    own, far, beside = (
        per_row(t, rank) for t in (rows.own / keep + tilt, rows.far + tilt * rows.alike[0], rows.beside + tilt * rows.alike[1])
    )  # fmt: skip
    own = own.clamp_max(1.0 / keep)
    tokens, places = v.shape[-2], R.count(v.roles, "position")
    inside, next_to = 1.0, 1.0  # chances that another place, or the next one, is in the same window
    if places > tokens > 1:
        sides = [n for n, role in v.roles[-2] if role == "position"]
        inside, next_to = (tokens - 1) / (places - 1), 1 - sum(1 / n for n in sides) / max(1, len(sides))
    elsewhere, other = w + (q - w) * far, d + (a - d) * far
    return Moments(
        mean,
        w + (q - w) * own,
        next_to * (w + (q - w) * beside) + (1 - next_to) * e,
        inside * elsewhere + (1 - inside) * e,
        other,
        inside * other + (1 - inside) * d,
    )


def per_row(t: Tensor, rank: int) -> Tensor:
    """Bring one number for each row, or for all, to the rank of a mixture."""
    few = t[:1] if bool((t == t[0]).all()) else t
    return few.reshape(*(1,) * (rank - 2), -1, 1)
