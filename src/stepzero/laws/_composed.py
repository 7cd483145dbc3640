"""Laws made of others: boxes of a tensor that follow laws of their own, the values of another parameter, and given numbers."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stepzero.errors import LawError

from ._base import Law, Moments, Shape
from ._elementwise import Kept

Box = tuple[tuple[int, int], ...]  # (start, stop) along each leading axis; axes that are left out are whole
SHOWN = 3  # parts that a repr lists


@dataclass(frozen=True, slots=True)
class Parts(Law):
    """Boxes of one tensor, each with a law of its own: packed q/k/v, the gates of an LSTM, a row of zeros for padding.

    A box is ((start, stop), …) along the leading axes; () is the whole tensor. Where boxes overlap, the later one counts.
    Elements drawn alike and independently keep the values that the whole tensor would have there; a law of matrices or patterns
    takes its box as a tensor of its own.

    Args:
        parts: Pairs of box and law.

    Raises:
        LawError: if there are no parts, a box is none, or a part is kept or made of parts itself.

    Examples:
        >>> from stepzero.laws import Constant, Normal
        >>> padded = Parts((((), Normal(1.0)), (((0, 1),), Constant(0.0))))
        >>> padded.draw((3, 2))[0].tolist()
        [0.0, 0.0]
    """

    kind: ClassVar[str] = "parts"

    parts: tuple[tuple[Box, Law], ...]

    def __post_init__(self) -> None:
        parts = tuple((_box(box), law) for box, law in self.parts)
        object.__setattr__(self, "parts", parts)
        if not parts:
            raise LawError("Parts: no parts. Give at least one pair of box and law.")
        for box, law in parts:
            if not isinstance(law, Law) or isinstance(law, (Kept, Parts, Copy)):
                raise LawError(f"Parts: {law!r} cannot be the law of a box, here {box}. Give a law that is drawn.")

    @classmethod
    def stacked(cls, laws: Sequence[Law], sizes: Sequence[int]) -> Parts:
        """Return laws that follow one another along the first axis.

        Examples:
            >>> from stepzero.laws import Constant
            >>> Parts.stacked([Constant(0.0), Constant(1.0)], [2, 2]).draw((4,)).tolist()   # the forget gate's bias
            [0.0, 0.0, 1.0, 1.0]
        """
        stops = np.cumsum(sizes).tolist()
        return cls(tuple((((stop - size, stop),), law) for law, size, stop in zip(laws, sizes, stops, strict=True)))

    @property
    def mean(self) -> float:
        """Nan: it differs between elements; see `moments`."""
        return math.nan

    def boxes(self, shape: Shape) -> list[tuple[tuple[range, ...], Law]]:
        """Return the positions of each part along every axis of a tensor of this shape."""
        return [
            (tuple(range(*cut) for cut in box) + tuple(range(size) for size in shape[len(box) :]), law)
            for box, law in self.parts
        ]

    def require(self, shape: Shape) -> None:
        """Raise LawError unless the boxes lie within the shape and cover it, and each can follow its law."""
        for box, law in self.parts:
            if len(box) > len(shape) or any(stop > size for (_, stop), size in zip(box, shape, strict=False)):
                raise LawError(f"Parts: the box {box} does not lie within shape {tuple(shape)}.")
            law.require(tuple(stop - start for start, stop in box) + tuple(shape[len(box) :]))
        if not _covered([box for box, _ in self.parts], shape):
            raise LawError(
                f"Parts: the boxes leave some of shape {tuple(shape)} without a law. Add a part for all: ()."
            )

    def moments(self, shape: Shape) -> Moments:
        """Return E[w] and E[w²] of each element, as arrays that broadcast to `shape`."""
        self.require(shape)
        found = [(held, law.moments(tuple(map(len, held)))) for held, law in self.boxes(shape)]
        wide = [
            any(
                len(held[axis]) < size or mean.shape[axis] > 1 or second.shape[axis] > 1
                for held, (mean, second) in found
            )
            for axis, size in enumerate(shape)
        ]
        lean = tuple(size if cut else min(size, 1) for size, cut in zip(shape, wide, strict=True))
        means, seconds = np.zeros(lean), np.zeros(lean)
        for held, (mean, second) in found:
            at = tuple(slice(h.start, h.stop) if cut else slice(None) for h, cut in zip(held, wide, strict=True))
            means[at], seconds[at] = mean, second
        return means, seconds

    def to_dict(self) -> dict[str, Any]:
        """Return the law as plain data."""
        parts = [{"box": [list(cut) for cut in box], **law.to_dict()} for box, law in self.parts]
        return {"law": self.kind, "parts": parts}

    def __repr__(self) -> str:
        shown = [f"{_in_words(box)}: {law!r}" for box, law in self.parts[:SHOWN]]
        more = [f"… {len(self.parts)} in all"] if len(self.parts) > SHOWN else []
        return f"Parts({', '.join(shown + more)})"


@dataclass(frozen=True, slots=True)
class Copy(Law):
    """The very values of another parameter at step zero: layers that were cloned, a target network, a momentum encoder.

    Args:
        of: Canonical name of the other parameter, in whose stream the values are drawn.
        law: Its law.

    Raises:
        LawError: if there is no name, or the law is kept or a copy itself.
    """

    kind: ClassVar[str] = "copy"

    of: str
    law: Law

    def __post_init__(self) -> None:
        if not isinstance(self.of, str) or not self.of:
            raise LawError(f"Copy: of={self.of!r} is no name of a parameter.")
        if not isinstance(self.law, Law) or isinstance(self.law, (Kept, Copy)):
            raise LawError(f"Copy: {self.law!r} is no law that {self.of} is drawn from.")

    @property
    def mean(self) -> float:
        """That of the law."""
        return self.law.mean

    @property
    def variance(self) -> float:
        """That of the law."""
        return self.law.variance

    def moments(self, shape: Shape) -> Moments:
        """Return those of the law."""
        return self.law.moments(shape)

    def require(self, shape: Shape) -> None:
        """Raise LawError unless the law fits."""
        self.law.require(shape)

    def to_dict(self) -> dict[str, Any]:
        """Return the law as plain data."""
        return {"law": self.kind, "of": self.of, "as": self.law.to_dict()}

    def __repr__(self) -> str:
        return f"Copy(of={self.of!r}, law={self.law!r})"


@dataclass(frozen=True, slots=True)
class Values(Law):
    """Given numbers: position tables, frequencies, blur kernels.

    Args:
        shape: Shape of the tensor.
        dtype: float32 or float64.
        data: Its bytes in C order, little-endian; `Values.of(array)` makes them.

    Raises:
        LawError: if the bytes are not those of such a tensor.

    Examples:
        >>> law = Values.of(np.arange(3.0))
        >>> law, law.draw((3,)).tolist()
        (Values(3), [0.0, 1.0, 2.0])
    """

    kind: ClassVar[str] = "values"

    shape: tuple[int, ...]
    dtype: str
    data: bytes

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.dtype not in ("float32", "float64"):
            raise LawError(f"Values: dtype={self.dtype!r} is neither float32 nor float64.")
        if len(self.data) != math.prod(self.shape) * np.dtype(self.dtype).itemsize:
            raise LawError(f"Values: {len(self.data)} bytes are no {self.dtype} tensor of shape {self.shape}.")

    @classmethod
    def of(cls, array: NDArray[Any]) -> Values:
        """Return the law that gives every element its number here; float64 stays, all else becomes float32."""
        kind = "float64" if array.dtype == np.float64 else "float32"
        return cls(array.shape, kind, np.ascontiguousarray(array, f"<{np.dtype(kind).str[1:]}").tobytes())

    @property
    def array(self) -> NDArray[Any]:
        """The numbers; they cannot be written."""
        return np.frombuffer(self.data, f"<{np.dtype(self.dtype).str[1:]}").reshape(self.shape)

    @property
    def mean(self) -> float:
        """Nan: it differs between elements; see `moments`."""
        return math.nan

    def moments(self, shape: Shape) -> Moments:
        """Return the numbers and their squares: nothing is random."""
        self.require(shape)
        numbers = self.array.astype(np.float64)
        return numbers, numbers**2

    def require(self, shape: Shape) -> None:
        """Raise LawError unless the shape is that of the numbers."""
        if tuple(shape) != self.shape:
            raise LawError(f"Values: numbers of shape {self.shape} for a tensor of shape {tuple(shape)}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the law as plain data: the bytes in base64."""
        data = base64.b64encode(self.data).decode()
        return {"law": self.kind, "shape": list(self.shape), "dtype": self.dtype, "data": data}

    def __repr__(self) -> str:
        return f"Values({'×'.join(map(str, self.shape)) or 'scalar'})"


def decoded(data: Any) -> bytes:
    """Return the bytes that base64 text stands for.

    Raises:
        LawError: if it is none.
    """
    try:
        return base64.b64decode(data, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise LawError("Values: data is not base64.") from None


def _box(box: Any) -> Box:
    try:
        cuts = tuple((int(start), int(stop)) for start, stop in box)
    except (TypeError, ValueError):
        cuts = ((0, 0),)
    if any(not 0 <= start < stop for start, stop in cuts):
        raise LawError(
            f"Parts: {box!r} is no box. Give pairs (start, stop), 0 ≤ start < stop, one for each leading axis."
        )
    return cuts


def _covered(boxes: list[Box], shape: Shape) -> bool:
    """Say whether boxes leave nothing of a shape out; it is cut at their edges, so its size does not matter."""
    full = [box + tuple((0, size) for size in shape[len(box) :]) for box in boxes]
    edges = [sorted({0, size, *(end for box in full for end in box[axis])}) for axis, size in enumerate(shape)]
    cells = np.zeros([len(axis) - 1 for axis in edges], bool)
    for box in full:
        cells[tuple(slice(e.index(a), e.index(b)) for e, (a, b) in zip(edges, box, strict=True))] = True
    return bool(cells.all())


def _in_words(box: Box) -> str:
    return f"[{', '.join(f'{start}:{stop}' for start, stop in box)}]" if box else "all"
