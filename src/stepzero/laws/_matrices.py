"""Laws of whole matrices: orthogonal, delta-orthogonal, dirac and identity, with the moments of each of their elements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stepzero.errors import LawError

from ._base import Law, Moments, Shape, nonnegative, number, positive_int


@dataclass(frozen=True, slots=True)
class Orthogonal(Law):
    """A (semi-)orthogonal matrix, uniform over all of them (Saxe et al. 2014), times `gain`.

    A tensor [out, in, *kernel] is drawn as the matrix [out, in·kernel]. Of m rows and n columns, the shorter side is orthonormal:
    each element has the variance gain²/max(m, n), so the forward pass keeps the factor gain²·n/max(m, n). An expanding
    layer (m > n) thus loses signal unless `gain` carries √(m/n): `preserving(shape)` sets that.
    A convolution drawn so is no isometry: `DeltaOrthogonal` is.

    Args:
        gain: Factor on the orthogonal matrix, ≥ 0.
        blocks: Equal blocks of rows that are orthogonal each for itself: the gates of an LSTM, packed q/k/v, the groups of a convolution.

    Raises:
        LawError: if the gain is negative or not finite, or blocks is not a whole number ≥ 1.
    """

    kind: ClassVar[str] = "orthogonal"

    gain: float = 1.0
    blocks: int = 1

    def __post_init__(self) -> None:
        nonnegative(self, "gain")
        positive_int(self, "blocks")

    @classmethod
    def preserving(cls, shape: Shape, gain: float = 1.0, blocks: int = 1) -> Orthogonal:
        """Return the law whose forward pass multiplies the second moment by gain², for expanding layers too.

        Examples:
            >>> Orthogonal.preserving((256, 64))
            Orthogonal(gain=2)
        """
        law = cls(gain, blocks)
        rows, columns = law.matrix(shape)
        return cls(gain * math.sqrt(max(rows, columns) / columns), blocks)

    def matrix(self, shape: Shape) -> tuple[int, int]:
        """Return rows and columns of one block."""
        self.require(shape)
        return shape[0] // self.blocks, math.prod(shape[1:])

    def require(self, shape: Shape) -> None:
        """Raise LawError unless the shape is a matrix whose rows fall into the blocks."""
        _at_least_two_axes(self, shape)
        if shape[0] % self.blocks:
            raise LawError(
                f"Orthogonal: {shape[0]} rows of shape {tuple(shape)} do not fall into {self.blocks} equal blocks."
            )

    def moments(self, shape: Shape) -> Moments:
        """Return E[w] = 0 and E[w²] = gain²/max(rows, columns), as arrays that broadcast to `shape`."""
        ones = (1,) * len(shape)
        return np.zeros(ones), np.full(ones, self.gain**2 / max(self.matrix(shape)))

    def __repr__(self) -> str:
        blocks = f", blocks={self.blocks}" if self.blocks != 1 else ""
        return f"Orthogonal(gain={self.gain:.6g}{blocks})"


@dataclass(frozen=True, slots=True)
class DeltaOrthogonal(Law):
    """An orthogonal matrix on the centre tap of a kernel, zero on all others (Xiao et al. 2018, Algorithm 1).

    The convolution is then an isometry times `gain`, whatever its padding: only the centre tap, which always hits a pixel, is not zero.

    Args:
        gain: Factor on the orthogonal matrix, ≥ 0.

    Raises:
        LawError: if the gain is negative or not finite.
    """

    kind: ClassVar[str] = "delta_orthogonal"

    gain: float = 1.0

    def __post_init__(self) -> None:
        nonnegative(self, "gain")

    def require(self, shape: Shape) -> None:
        """Raise LawError unless the kernel has a centre tap and at least as many outputs as inputs."""
        _at_least_two_axes(self, shape)
        if any(taps % 2 == 0 for taps in shape[2:]):
            raise LawError(
                f"DeltaOrthogonal: a kernel of {_by(shape[2:])} taps has no centre. Use odd kernel sizes, or Orthogonal."
            )
        if shape[0] < shape[1]:
            raise LawError(
                f"DeltaOrthogonal: {shape[1]} input channels cannot be mapped to {shape[0]} without loss; "
                "it needs out ≥ in (Xiao et al. 2018, Algorithm 1). Use Orthogonal."
            )

    def moments(self, shape: Shape) -> Moments:
        """Return E[w] = 0, and E[w²] = gain²/out on the centre tap, as arrays that broadcast to `shape`."""
        self.require(shape)
        second = np.zeros((1, 1, *shape[2:]))
        second[_centre(shape)] = self.gain**2 / shape[0]
        return np.zeros((1,) * len(shape)), second

    def __repr__(self) -> str:
        return f"DeltaOrthogonal(gain={self.gain:.6g})"


@dataclass(frozen=True, slots=True)
class Dirac(Law):
    """A convolution that hands its input on: a one on the centre tap from channel i to channel i, zero elsewhere.

    Args:
        groups: Groups of the convolution; each hands on its own channels.

    Raises:
        LawError: if groups is not a whole number ≥ 1.
    """

    kind: ClassVar[str] = "dirac"

    groups: int = 1

    def __post_init__(self) -> None:
        positive_int(self, "groups")

    @property
    def mean(self) -> float:
        """Nan: it differs between elements; see `moments`."""
        return math.nan

    def require(self, shape: Shape) -> None:
        """Raise LawError unless the shape is a convolution's and its outputs fall into the groups."""
        if len(shape) < 3:
            raise LawError(
                f"Dirac: needs a kernel (out, in, *kernel), got shape {tuple(shape)}. For a matrix use Identity."
            )
        _at_least_two_axes(self, shape)
        if shape[0] % self.groups:
            raise LawError(f"Dirac: {shape[0]} output channels do not fall into groups={self.groups} equal groups.")

    def moments(self, shape: Shape) -> Moments:
        """Return the values and their squares: nothing is random."""
        self.require(shape)
        value = np.zeros(shape)
        per_group = shape[0] // self.groups
        for group in range(self.groups):
            for channel in range(min(per_group, shape[1])):
                value[(group * per_group + channel, channel, *_centre(shape)[2:])] = 1.0
        return value, value**2

    def __repr__(self) -> str:
        return f"Dirac(groups={self.groups})" if self.groups != 1 else "Dirac()"


@dataclass(frozen=True, slots=True)
class Identity(Law):
    """`gain` on the diagonal of a matrix, zero elsewhere; rectangular matrices are padded with zeros.

    Args:
        gain: The value on the diagonal.

    Raises:
        LawError: if the gain is not finite.
    """

    kind: ClassVar[str] = "identity"

    gain: float = 1.0

    def __post_init__(self) -> None:
        number(self, "gain")

    @property
    def mean(self) -> float:
        """Nan: it differs between elements; see `moments`."""
        return math.nan

    def require(self, shape: Shape) -> None:
        """Raise LawError unless the shape is a matrix."""
        if len(shape) != 2:
            raise LawError(f"Identity: needs a matrix, got shape {tuple(shape)}. For a convolution use Dirac.")

    def moments(self, shape: Shape) -> Moments:
        """Return the values and their squares: nothing is random."""
        self.require(shape)
        value = self.gain * np.eye(shape[0], shape[1])
        return value, value**2

    def __repr__(self) -> str:
        return f"Identity(gain={self.gain:.6g})"


def isometric(law: Law, shape: Shape) -> bool:
    """Say whether all singular values of what a law draws, as the matrix [out, in·kernel], are alike but for zeros.

    Examples:
        >>> isometric(Orthogonal(2.0), (4, 6)), isometric(Orthogonal(2.0, blocks=2), (4, 6))
        (True, False)
    """
    if isinstance(law, Orthogonal):
        rows, columns = law.matrix(shape)
        return law.blocks == 1 or rows >= columns
    return isinstance(law, DeltaOrthogonal)


def _at_least_two_axes(law: Law, shape: Shape) -> None:
    if len(shape) < 2:
        raise LawError(f"{type(law).__name__}: needs at least 2 axes (out, in, *kernel), got shape {tuple(shape)}.")
    if 0 in shape:
        raise LawError(f"{type(law).__name__}: shape {tuple(shape)} has no elements.")


def _centre(shape: Shape) -> tuple[int, ...]:
    return (0, 0, *(taps // 2 for taps in shape[2:]))


def _by(sizes: tuple[int, ...]) -> str:
    return "×".join(map(str, sizes))
