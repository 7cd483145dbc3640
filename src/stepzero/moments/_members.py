"""The elements that a norm takes together: what their mean removes, and how their variance scatters between channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._energies import MOST_SCATTER, others
from stepzero.moments._signal import Moments, Signal
from stepzero.theory._quadratic import inverse_and_shares

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Members:
    """The elements that are normalised together: axes of a signal, and how many of each role they hold."""

    dims: tuple[int, ...]
    inputs: int
    channels: int
    places: int
    sides: int  # axes of positions

    @classmethod
    def of(cls, x: Signal, dims: Sequence[int]) -> Members:
        """Count the members by the roles of the axes."""
        inside = tuple(x.roles[d] for d in dims)
        sides = sum(R.is_all(axis, "position") for axis in inside)
        return cls(
            tuple(dims),
            R.count(inside, "batch"),
            R.count(inside, "channel") * R.count(inside, "copy"),
            R.count(inside, "position"),
            sides,
        )

    def mean(self, t: Tensor) -> Tensor:
        """Average a lean tensor over the set."""
        return t.mean(dim=self.dims, keepdim=True) if t.dim() and self.dims else t

    def pairs(self, m: Moments) -> Tensor:
        """Mean over the set of E[x_p x_p'], for each p."""
        b, c, p = self.inputs, self.channels, self.places
        alike = (m.second + (p - 1) * m.elsewhere + (b - 1) * m.across + (b - 1) * (p - 1) * m.apart) / (p * b)
        return alike if c == 1 else alike / c + (1 - 1 / c) * m.mean * self.mean(m.mean)

    def scatter(self, x: Moments, *, centre: bool) -> tuple[Tensor, Moments]:
        r"""Return E[v]·E[1/v] of the set's variance v, and what its scatter adds to the pairs of x/√v.

        A channel is Gaussian over the draws of its weights, so v is a quadratic form of four kinds of independent
        modes: contrasts between places that all inputs share (λ = q - e + (b-1)(a - d) for second moment q, pairs e
        elsewhere, a across, d apart), between inputs that all places share (q - a + (p-1)(e - d)), of both
        (q - e - a + d), and the means of channels that share a norm. A mode that is strong makes v large with it: it
        keeps less of the normalised channel than its share on average. What neighbours share beyond distant places
        makes the first and third kind uneven; they then count as fewer modes.

        Args:
            x: Moments of the set, in units of its variance.
            centre: Whether the mean is removed.
        """
        b, c, p = self.inputs, self.channels, self.places
        square = x.mean.square() if c > 1 else 0.0 * x.mean
        kinds = torch.broadcast_tensors(*(self._typical(t - square) for t in x[1:]))
        q, n, e, a, d = (t.numpy() for t in kinds)
        alike = (
            q + (p - 1) * e + (b - 1) * (a + (p - 1) * d),
            q - e + (b - 1) * (a - d),
            q - a + (p - 1) * (e - d),
            q - e - a + d,
        )
        values = np.stack(alike, -1).reshape(-1, 4).clip(0.0)
        modes = np.array([1.0, p - 1, b - 1, (b - 1) * (p - 1)])
        counts = c * modes - np.array([float(centre), 0.0, 0.0, 0.0])
        few = self._unevenness(n.ravel(), e.ravel(), (values[:, 1::2] ** 2) @ counts[1::2])
        inverse, shares = inverse_and_shares(values * few, counts / few)
        total = (values @ counts)[:, None]
        more = (shares - values * counts / np.where(total > 0.0, total, 1.0)) * b * p / np.maximum(modes, 1.0)
        shape = kinds[0].shape
        scatter = torch.from_numpy(inverse.clip(1.0, MOST_SCATTER).reshape(shape))
        return scatter, self._pairs_of([torch.from_numpy(k.reshape(shape)) for k in more.T])

    def _typical(self, t: Tensor) -> Tensor:
        """Average over the set, and over all sets where channels share one."""
        return self.mean(t) if self.channels == 1 else t.mean()

    def _unevenness(self, near: Array, elsewhere: Array, flat: Array) -> Array:
        """Return how much larger, and fewer, the modes of each kind are for what only neighbours share."""
        p = self.places
        beside = min(2 * self.sides, p - 1)
        rest = p - 1 - beside
        distant = ((p - 1) * elsewhere - beside * near) / max(1, rest)
        beyond = beside * (near - elsewhere) ** 2 + rest * (distant - elsewhere) ** 2
        factor = 1.0 + self.inputs * self.channels * p * beyond / np.where(flat > 0.0, flat, np.inf)
        return np.stack([np.ones_like(factor), factor, np.ones_like(factor), factor], -1)

    def _pairs_of(self, modes: Sequence[Tensor]) -> Moments:
        """Return the pair moments, without a mean, that modes of these sizes make."""
        b, p = self.inputs, self.places
        whole, places, inputs, both = (m / (b * p) for m in modes)
        second = whole + (p - 1) * places + (b - 1) * inputs + (b - 1) * (p - 1) * both
        elsewhere = whole - places + (b - 1) * (inputs - both)
        across = whole - inputs + (p - 1) * (places - both)
        apart = whole - places - inputs + both
        return Moments(0.0 * second, second, elsewhere, elsewhere, across, apart)

    def without_mean(self, m: Moments) -> Moments:
        """Subtract the set's own mean; another input's or place's mean is its own where the set does not hold it."""
        row = self.pairs(m)
        whole, far = self.mean(row), self._other_places(row)
        removed = 2 * row - whole
        places, inputs = self.places > 1, self.inputs > 1
        of_input = row + others(row, self.inputs) - whole  # of an element and of its like in another input, on average
        of_place, of_both = row + far - whole, row + others(far, self.inputs) - whole
        across = of_input if inputs else self._between(m, m.across, m.apart)
        elsewhere = of_place if places else self._between(m, m.elsewhere, m.apart)
        apart = of_both if places and inputs else self._between(m, m.across if places else m.elsewhere, m.apart)
        return Moments(
            m.mean - self.mean(m.mean),
            m.second - removed,
            m.near - (removed if places else self._between(m, m.near, m.apart)),
            m.elsewhere - elsewhere,
            m.across - across,
            m.apart - (apart if places or inputs else self._between(m, m.apart, m.apart)),
        )

    def along(self, change: Moments, y: Moments) -> tuple[Tensor, ...]:
        """Return what the projection off the output x̂ takes from each kind of pair of a change, over E[x̂ x̂'].

        With a = Σ δ x̂/N, E[(δ - x̂a)²] = E[δ²] - 2E[δ x̂ a] + E[x̂²]E[a²]: for a typical element that is E[δ²] - E[x̂²]E[a²]. An
        input that is strong loses more.
        """
        product = Moments(change.mean, *(c * k for c, k in zip(change[1:], y[1:], strict=True)))
        met = self.pairs(product)
        whole = self.mean(met)
        if self.channels > 1 or not y.second.dim() or y.second.shape[0] != self.inputs or self.inputs == 1:
            return (whole,) * 5
        dims = [d for d in self.dims if d]
        met, second = (t.mean(dim=dims, keepdim=True) if dims else t for t in (met, y.second))
        own = 2.0 * met / second.clamp_min(1e-6) - whole
        both = 0.5 * (own + others(own, self.inputs))
        return own, own, own, both, both

    def _other_places(self, row: Tensor) -> Tensor:
        """Average what belongs to an element over the other places of its input."""
        dims = [d for d in self.dims if d and row.dim()]
        return (
            row - (row - row.mean(dim=dims, keepdim=True)) * (self.places / (self.places - 1))
            if dims and self.places > 1
            else row
        )

    def _between(self, m: Moments, own: Tensor, other: Tensor) -> Tensor:
        """What the means of two sets take away: members that differ by the sets alone make `own`, the rest `other`."""
        c, count = self.channels, self.places * self.inputs
        alike = (own + (count - 1) * other) / count
        if c == 1:
            return alike
        mean = self.mean(m.mean)
        strangers = 2 * m.mean * mean - mean**2
        return alike / c + (1 - 1 / c) * strangers
