"""Laws about lengths: directions drawn uniformly, and the lengths of what another parameter was drawn as."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stepzero.errors import LawError

from ._base import Law, Moments, Shape, nonnegative
from ._composed import Copy
from ._elementwise import Kept


@dataclass(frozen=True, slots=True)
class Sphere(Law):
    """Directions, uniform on the sphere: normals divided by their length. The vectors u and v of spectral norm start so.

    Args:
        radius: Length of each vector, ≥ 0.
        axis: Axis along which the vectors lie; None for one vector, the whole tensor.

    Raises:
        LawError: if the radius is negative or not finite, or the axis is no whole number.

    Examples:
        >>> float(np.linalg.norm(Sphere(2.0, axis=1).draw((3, 5))[0]).round(6))
        2.0
    """

    kind: ClassVar[str] = "sphere"

    radius: float = 1.0
    axis: int | None = None

    def __post_init__(self) -> None:
        nonnegative(self, "radius")
        require_axis(self)

    def length(self, shape: Shape) -> int:
        """Return how many elements a vector of a tensor of this shape has."""
        return math.prod(shape) if self.axis is None else shape[self.axis]

    def require(self, shape: Shape) -> None:
        """Raise LawError unless a tensor of this shape has the axis, and elements along it."""
        if self.axis is not None and self.axis >= len(shape):
            raise LawError(f"Sphere: shape {tuple(shape)} has no axis {self.axis}.")
        if 0 in shape or not shape:
            raise LawError(f"Sphere: a tensor of shape {tuple(shape)} has no direction.")

    def moments(self, shape: Shape) -> Moments:
        """Return E[w] = 0 and E[w²] = radius²/length, as arrays that broadcast to `shape`."""
        self.require(shape)
        ones = (1,) * len(shape)
        return np.zeros(ones), np.full(ones, self.radius**2 / self.length(shape))

    def __repr__(self) -> str:
        return f"Sphere(radius={self.radius:g}{'' if self.axis is None else f', axis={self.axis}'})"


@dataclass(frozen=True, slots=True)
class Norms(Law):
    """The Euclidean lengths of slices of another parameter: the gains of weight norm, g = ‖v‖ (Salimans & Kingma 2016, section 2).

    They are computed from the very values that the other parameter is drawn as, in float32, whatever its number format.

    Args:
        of: Canonical name of the other parameter, in whose stream it is drawn.
        law: Its law.
        shape: Its shape.
        axis: The axis of it that is left: one length for each position along it. None for one length in all.

    Raises:
        LawError: if there is no name, nothing is drawn, or the shape is empty or has no such axis.

    Examples:
        >>> from stepzero.laws import Normal
        >>> v = Normal(1.0).draw((3, 4), name="v")
        >>> g = Norms("v", Normal(1.0), (3, 4), axis=0).draw((3, 1), name="g")
        >>> bool(np.allclose(g.ravel(), np.linalg.norm(v, axis=1)))
        True
    """

    kind: ClassVar[str] = "norms"

    of: str
    law: Law
    shape: tuple[int, ...]
    axis: int | None = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if not isinstance(self.of, str) or not self.of:
            raise LawError(f"Norms: of={self.of!r} is no name of a parameter.")
        if not isinstance(self.law, Law) or isinstance(self.law, (Kept, Copy, Norms)):
            raise LawError(f"Norms: {self.law!r} is no law that {self.of} is drawn from.")
        require_axis(self)
        if 0 in self.shape or len(self.shape) <= (-1 if self.axis is None else self.axis):
            raise LawError(f"Norms: {self.of} of shape {self.shape} has no slices along axis {self.axis}.")
        self.law.require(self.shape)

    @property
    def count(self) -> int:
        """How many lengths there are."""
        return 1 if self.axis is None else self.shape[self.axis]

    def place(self, shape: Shape) -> int | None:
        """Return the axis of a tensor of this shape along which the lengths stand, or None for a single one.

        Raises:
            LawError: if the tensor holds another number of elements, or has several axes of more than one.
        """
        wide = [axis for axis, size in enumerate(shape) if size != 1]
        if math.prod(shape) != self.count or len(wide) > 1:
            raise LawError(f"Norms: {self.count} lengths of {self.of} for a tensor of shape {tuple(shape)}.")
        return wide[0] if wide else None

    def require(self, shape: Shape) -> None:
        """Raise LawError unless the shape is that of a vector of these lengths, axes of one apart."""
        self.place(shape)

    def moments(self, shape: Shape) -> Moments:
        """Return E[g] and E[g²], the sum of E[v²] over each slice; the mean by the delta method for normals, to O(1/n²)."""
        place, second = self.place(shape), self.law.moments(self.shape)[1]
        others = tuple(axis for axis in range(len(self.shape)) if axis != self.axis)
        n = math.prod(self.shape) / self.count
        square = second.mean(others).reshape([-1 if axis == place else 1 for axis in range(len(shape))]) * n
        return np.sqrt(square) * (1 - 1 / (4 * n)), square

    @property
    def mean(self) -> float:
        """Nan: it may differ between slices; see `moments`."""
        return math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return the law as plain data."""
        return {"law": self.kind, "of": self.of, "as": self.law.to_dict(), "shape": list(self.shape), "axis": self.axis}

    def __repr__(self) -> str:
        return f"Norms(of={self.of!r}, law={self.law!r}, axis={self.axis})"


def require_axis(law: Sphere | Norms) -> None:
    """Raise LawError unless the axis is a whole number ≥ 0, or None."""
    if law.axis is not None and (isinstance(law.axis, bool) or not isinstance(law.axis, int) or law.axis < 0):
        raise LawError(f"{type(law).__name__}: axis={law.axis!r} is no axis. Give a whole number ≥ 0, or None for all.")
