"""Which inputs a kernel's taps hit: counted tap by tap, and in closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from stepzero.errors import FanError

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Axis:
    """A kernel along one spatial axis.

    Args:
        kernel: Taps, ≥ 1.
        stride: Step between outputs (between inputs, if transposed), ≥ 1.
        dilation: Step between taps, ≥ 1.
        left: Padding before.
        right: Padding after.
        output_padding: Extra outputs of a transposed convolution.
        size: Positions of the input; None for the interior of an endless map.
        mode: How the padding is filled: zeros, reflect, replicate or circular.
        transposed: True for a transposed convolution.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    left: int = 0
    right: int = 0
    output_padding: int = 0
    size: int | None = None
    mode: str = "zeros"
    transposed: bool = False

    @property
    def out_size(self) -> int:
        """Positions of the output.

        Raises:
            FanError: if the kernel does not fit into the padded input.
        """
        size, reach = self.size or 0, self.dilation * (self.kernel - 1)
        if self.transposed:
            out = (size - 1) * self.stride - self.left - self.right + reach + self.output_padding + 1
        else:
            out = (size + self.left + self.right - reach - 1) // self.stride + 1
        if out < 1:
            raise FanError(
                f"a kernel of {self.kernel} (dilation {self.dilation}, padding {self.left}+{self.right}) has no output "
                f"on {size} positions. Give the size of the map that the layer really sees."
            )
        return out

    @property
    def ratios(self) -> tuple[Fraction, Fraction]:
        """Taps per output and uses per input, averaged over positions, in closed form.

        With T the number of (output, tap) pairs that hit a real input, they are T/n_out and T/n_in, whatever the
        correlation of the inputs: the weights of two taps differ, so their variances add.
        """
        if self.size is None:  # the interior: every tap hits
            shrink = Fraction(self.kernel, self.stride)
            return (shrink, Fraction(self.kernel)) if self.transposed else (Fraction(self.kernel), shrink)
        hits = self.hits()
        return Fraction(hits, self.out_size), Fraction(hits, self.size)

    def hits(self) -> int:
        """Return T, the number of (output, tap) pairs that hit a real input, in closed form.

        Tap t hits for N_t = #{o: 0 ≤ o·s − p + d·t < n} outputs, an interval of o. A transposed convolution is the same
        count with the two maps swapped, and filled padding always hits.
        """
        size = self.size or 0
        sites, target = (size, self.out_size) if self.transposed else (self.out_size, size)
        if self.mode != "zeros":
            return self.kernel * sites
        total = 0
        for tap in range(self.kernel):
            shift = self.left - self.dilation * tap
            first, last = max(0, -(-shift // self.stride)), min(sites - 1, (target - 1 + shift) // self.stride)
            total += max(0, last - first + 1)
        return total

    def counts(self) -> tuple[Ints, Ints]:
        """Return the taps of each output and the uses of each input, counted one by one.

        Without a size: over one period of the interior, `stride` positions long on the finer map.
        """
        if self.size is None:
            return self._phases()
        sites, target = (self.size, self.out_size) if self.transposed else (self.out_size, self.size)
        at = np.arange(sites)[:, None] * self.stride - self.left + self.dilation * np.arange(self.kernel)[None, :]
        at, real = FILLINGS[self.mode](at, target)
        per_site, per_target = real.sum(axis=1), np.bincount(at[real], minlength=target)
        return (per_target, per_site) if self.transposed else (per_site, per_target)

    def _phases(self) -> tuple[Ints, Ints]:
        """Counts of the interior: tap t serves the positions whose phase is d·t modulo the stride."""
        phase = (self.dilation * np.arange(self.kernel)) % self.stride
        fine, coarse = np.bincount(phase, minlength=self.stride), np.array([self.kernel])
        return (fine, coarse) if self.transposed else (coarse, fine)


def _zeros(at: Ints, size: int) -> tuple[Ints, NDArray[np.bool_]]:
    return at, (at >= 0) & (at < size)


def _circular(at: Ints, size: int) -> tuple[Ints, NDArray[np.bool_]]:
    return at % size, np.ones(at.shape, dtype=bool)


def _replicate(at: Ints, size: int) -> tuple[Ints, NDArray[np.bool_]]:
    return np.clip(at, 0, size - 1), np.ones(at.shape, dtype=bool)


def _reflect(at: Ints, size: int) -> tuple[Ints, NDArray[np.bool_]]:
    period = max(2 * (size - 1), 1)
    folded = np.abs(at) % period
    return np.where(folded < size, folded, period - folded), np.ones(at.shape, dtype=bool)


FILLINGS: Mapping[str, Callable[[Ints, int], tuple[Ints, NDArray[np.bool_]]]] = MappingProxyType(
    {
        "zeros": _zeros,
        "circular": _circular,
        "replicate": _replicate,
        "reflect": _reflect,
    }
)
