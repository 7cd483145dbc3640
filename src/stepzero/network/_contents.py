"""What a tensor may contain at step zero, and arithmetic on it: laws, numbers, memory nobody wrote, or a mixture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from stepzero.errors import LawError
from stepzero.laws import GRIDS, Constant, Dirac, Identity, Law, Mapped, Normal, Sphere, TruncatedNormal, Uniform
from stepzero.laws import Orthogonal as OrthogonalLaw
from stepzero.laws import Sparse as SparseLaw


@dataclass(frozen=True, slots=True)
class Unread:
    """Contents that no rule covers."""

    reason: str


@dataclass(frozen=True, slots=True)
class Empty:
    """Memory that nobody has written to."""


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """Values that follow from constants."""

    tensor: torch.Tensor


@dataclass(frozen=True, slots=True)
class Drawn:
    """Independent elements of one law."""

    law: Law


@dataclass(frozen=True, slots=True)
class Cut:
    """A normal restricted to [low, high] of its standard deviations, by the settings of the normal itself."""

    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Erfinv:
    """erfinv of U(low, high): a standard normal over √2, restricted."""

    scale: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Factor:
    """A part of the QR decomposition of a standard normal matrix: "q", "r", "diagonal" or "sign"."""

    part: str
    sides: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Orthogonal:
    """A uniformly distributed (semi-)orthogonal matrix times `gain`."""

    gain: float
    sides: tuple[int, ...]  # rows and columns, the smaller first


@dataclass(frozen=True, slots=True)
class Zeroed:
    """Independent normal elements, some of each column set to zero at random places."""

    std: float
    zeros: int
    columns: frozenset[int]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Euclidean lengths of another value, `of`, along some of its axes."""

    of: int
    law: Law
    shape: tuple[int, ...]
    along: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Directions:
    """Vectors along some axes, uniform on a sphere of this radius."""

    radius: float
    along: tuple[int, ...]


VECTOR = frozenset({-1})  # the columns of what is one column itself


@dataclass(frozen=True, slots=True)
class Mixed:
    """Contents that differ between regions: a base, and boxes written over it in order."""

    base: Content
    boxes: tuple[tuple[tuple[slice, ...], Content], ...]


Content = Unread | Empty | Numbers | Drawn | Cut | Erfinv | Factor | Orthogonal | Zeroed | Mixed | Lengths | Directions


def scaled(content: Content, factor: float) -> Content:
    """Return the contents times a number."""
    match content:
        case Drawn(law):
            return _scaled_law(law, factor)
        case Cut(mean, std, low, high):
            ends = (low, high) if factor >= 0 else (-high, -low)
            return Cut(mean * factor, std * abs(factor), *ends)
        case Erfinv(scale, low, high):
            return Erfinv(scale * factor, low, high)
        case Orthogonal(gain, sides):
            return Orthogonal(gain * abs(factor), sides)  # −Q is as uniform as Q
        case Zeroed(std, zeros, columns):
            return Zeroed(std * abs(factor), zeros, columns)
        case Mixed(base, boxes):
            return Mixed(scaled(base, factor), tuple((box, scaled(part, factor)) for box, part in boxes))
        case Numbers(tensor):
            return Numbers(tensor * factor)
        case Empty():
            return content
        case Directions(radius, along):
            return Directions(radius * abs(factor), along)
        case Factor(part):
            return Unread(f"the {part} of a QR decomposition was scaled")
        case Lengths():
            return Unread("lengths were scaled")
    return content


def _scaled_law(law: Law, factor: float) -> Content:
    if factor == 1:
        return Drawn(law)
    if isinstance(law, Normal):
        return Drawn(Normal(law.std * abs(factor), law.mean * factor))
    if isinstance(law, Uniform):
        return Drawn(Uniform(*sorted((law.low * factor, law.high * factor))))
    if isinstance(law, Constant):
        return Drawn(Constant(law.value * factor))
    return mapped(Drawn(law), ("mul", factor)) if factor else Drawn(Constant(0.0))


def shifted(content: Content, by: float) -> Content:
    """Return the contents plus a number."""
    match content:
        case Drawn(Normal(std, mean)):
            return Drawn(Normal(std, mean + by))
        case Drawn(Uniform(low, high)):
            return Drawn(Uniform(low + by, high + by))
        case Drawn(Constant(value)):
            return Drawn(Constant(value + by))
        case Drawn(Mapped()) if by:
            return mapped(content, ("add", by))
        case Cut(mean, std, low, high):
            return Cut(mean + by, std, low, high)
        case Numbers(tensor):
            return Numbers(tensor + by)
        case Erfinv():
            return shifted(settled(content), by)
        case Mixed(base, boxes):
            return Mixed(shifted(base, by), tuple((box, shifted(part, by)) for box, part in boxes))
        case Unread() | Empty():
            return content
    return content if by == 0 else Unread(f"{type(content).__name__.lower()} contents were shifted")


def mapped(content: Content, *steps: tuple[Any, ...]) -> Content:
    """Return functions of independent draws; of anything else, why they have no law."""
    content = settled(content)
    law = law_of(content, ()) if isinstance(content, (Drawn, Cut)) else None
    try:
        if isinstance(law, Mapped):
            return Drawn(law.then(*steps))
        if type(law) in GRIDS and law is not None:
            return Drawn(Mapped(law, steps))
    except LawError as error:
        return Unread(str(error))
    if isinstance(content, Unread):
        return content
    return Unread(f"{steps[0][0]} of {_named(content)}")


def _named(content: Content) -> str:
    return repr(content.law) if isinstance(content, Drawn) else f"{type(content).__name__.lower()} contents"


def settled(content: Content) -> Content:
    """Return erfinv of a uniform as what it is: a normal between two quantiles (√2·erfinv(2p − 1) = Φ⁻¹(p))."""
    if not isinstance(content, Erfinv):
        return content
    low, high = (
        math.sqrt(2.0) * float(torch.erfinv(torch.tensor(x, dtype=torch.float64))) for x in (content.low, content.high)
    )
    ends = (low, high) if content.scale >= 0 else (-high, -low)
    return Cut(0.0, abs(content.scale) / math.sqrt(2.0), *ends)


def number(content: Content) -> float | None:
    """Return the one number that contents consist of, or None."""
    if isinstance(content, Drawn) and isinstance(content.law, Constant):
        return content.law.value
    if isinstance(content, Numbers) and content.tensor.numel() and not content.tensor.is_complex():
        flat = content.tensor.reshape(-1).double()
        return float(flat[0]) if bool((flat == flat[0]).all()) else None
    return None


def independent(content: Content) -> bool:
    """Say whether all elements are drawn alike and independently, so that any rearrangement of them has the same law."""
    return isinstance(content, (Drawn, Cut, Erfinv, Empty, Unread)) or number(content) is not None


def law_of(content: Content, shape: tuple[int, ...]) -> Law | None:
    """Return the law of contents that are all of one kind, or None."""
    content = settled(content)
    match content:
        case Drawn(law):
            return law
        case Cut(mean, std, low, high):
            return _cut_law(mean, std, low, high)
        case Orthogonal(gain, sides):
            return OrthogonalLaw(gain) if sides == tuple(sorted((shape[0], math.prod(shape[1:])))) else None
        case Zeroed(std, zeros, columns):
            return SparseLaw(zeros / shape[0], std) if len(shape) == 2 and len(columns) == shape[1] else None
        case Directions(radius, along) if len(along) in (1, len(shape)):
            return Sphere(radius, None if len(along) == len(shape) else along[0])
    value = number(content)
    if value is not None and math.isfinite(value):
        return Constant(value)
    return _pattern(content.tensor) if isinstance(content, Numbers) else None


def _pattern(numbers: torch.Tensor) -> Law | None:
    """Return the law of a matrix or kernel that hands its input on, or None."""
    shape, ones = tuple(numbers.shape), int(numbers.count_nonzero())
    if len(shape) < 2 or 0 in shape or numbers.is_complex():
        return None
    if len(shape) == 2:
        laws: list[Law] = [Identity(float(numbers[0, 0]))]
    else:
        groups = [g for g in range(1, shape[0] + 1) if shape[0] % g == 0 and ones == g * min(shape[0] // g, shape[1])]
        laws = [Dirac(g) for g in groups]
    exact = numbers.double().numpy()
    return next((law for law in laws if (exact == law.moments(shape)[0]).all()), None)


def _cut_law(mean: float, std: float, low: float, high: float) -> Law | None:
    """Return a truncated normal; cuts beyond ten deviations cut nothing."""
    if low <= -10 and high >= 10:
        return Normal(std, mean)
    try:
        law = TruncatedNormal(std / TruncatedNormal(1.0, low, high).parent_std, low, high)
        return Mapped(law, (("add", mean),)) if mean else law
    except LawError:  # no mass between the cuts
        return None
