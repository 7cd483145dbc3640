"""A parameter as lint sees it: by the law that its constructor meant, or by its values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stepzero.errors import LawError
from stepzero.laws import Constant, Law, TruncatedNormal, Uniform
from stepzero.network import Origin, Slot

CHUNK = 1 << 22  # elements that are read at a time, in double precision
LOOSE = 0.005  # relative error granted to a measured standard deviation beside its standard errors


@dataclass(frozen=True)
class Holding:
    """A parameter as rules see it: by the law that its constructor meant, or by its values.

    Args:
        slot: Its names and places.
        origin: What `build` recorded of it; None for a model that was not built so.
    """

    slot: Slot
    origin: Origin | None = None

    @property
    def name(self) -> str:
        """Canonical name."""
        return self.slot.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape."""
        return tuple(self.slot.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Type."""
        return self.slot.tensor.dtype

    @property
    def law(self) -> Law | None:
        """The recorded law of the whole tensor."""
        return None if self.origin is None else self.origin.law

    @property
    def values(self) -> Tensor | None:
        """The numbers, where the model has them."""
        t = self.slot.tensor
        return None if t.is_meta or not (t.is_floating_point() or t.is_complex()) else t.detach()

    @cached_property
    def moments(self) -> tuple[float, float] | None:
        """E[w] and E[|w|²], averaged over elements; None where neither law nor values are known."""
        if self.values is not None:
            return _measured(self.values) if self.values.numel() else None
        return None if self.origin is None else _of_parts(self.origin)

    @property
    def std(self) -> float:
        """Standard deviation; nan where unknown."""
        if self.moments is None:
            return math.nan
        mean, second = self.moments
        return math.sqrt(max(second - mean**2, 0.0))

    @property
    def second(self) -> float:
        """E[|w|²]; nan where unknown."""
        return math.nan if self.moments is None else self.moments[1]

    @property
    def constant(self) -> float | None:
        """The one value of all elements; None where they differ or are unknown."""
        if self.values is None:
            return self.law.value if isinstance(self.law, Constant) else None
        if not self.values.numel() or self.values.is_complex():
            return None
        first = self.values.flatten()[0]
        return float(first) if bool((self.values == first).all()) else None

    @cached_property
    def bound(self) -> float | None:
        """The bound of a uniform law around 0; None where it is another law, or too few values tell."""
        if self.law is not None:
            return self.law.high if isinstance(self.law, Uniform) and self.law.low == -self.law.high else None
        if self.values is None or self.values.numel() < 64 or self.values.is_complex() or not self.std > 0:
            return None
        largest = float(self.values.abs().max())
        return largest if abs(self.std * math.sqrt(3.0) / largest - 1) < 2 * self.tolerance else None

    @property
    def tolerance(self) -> float:
        """Relative error of `std`: rounding for a law, four standard errors for values."""
        return 1e-4 if self.values is None else LOOSE + 4 / math.sqrt(2 * max(1, self.values.numel()))

    def has_std(self, std: float) -> bool:
        """Say whether the elements have this standard deviation, as far as they tell."""
        return self.std > 0 and std > 0 and abs(math.log(self.std / std)) < self.tolerance

    @property
    def history(self) -> tuple[str, ...]:
        """Everything that was written to it, with the lines of code; empty where nothing was recorded."""
        return () if self.origin is None else self.origin.history

    @property
    def truncated(self) -> TruncatedNormal | None:
        """The recorded law if it is a truncated normal."""
        return self.law if isinstance(self.law, TruncatedNormal) else None

    def lean(self) -> tuple[Tensor, Tensor]:
        """Return E[w] and E[w²] as rules of moments take them; what is unknown is taken as N(0, 1)."""
        if self.law is not None and self.values is None and self.law.kind != "kept":
            mean, second = self.law.moments(self.shape)
            return torch.from_numpy(mean).double(), torch.from_numpy(second).double()
        mean_, second_ = self.moments or (0.0, 1.0)
        return torch.tensor(mean_, dtype=torch.float64), torch.tensor(second_, dtype=torch.float64)


def _measured(values: Tensor) -> tuple[float, float]:
    """Return the mean and the mean square of a tensor without a copy of it in double precision."""
    flat = values.reshape(-1)
    total, square = 0.0, 0.0
    for part in flat.split(CHUNK):
        wide = torch.view_as_real(part).double() if part.is_complex() else part.double()
        total += float(wide.sum()) if not part.is_complex() else float(wide[:, 0].sum())
        square += float(wide.square().sum())
    return total / flat.numel(), square / flat.numel()


def _of_parts(origin: Origin) -> tuple[float, float] | None:
    """Return the moments that recorded parts have together, each weighed by its elements; None if one is unknown."""
    whole = math.prod(origin.shape)
    mean = second = 0.0
    covered = 0
    for part in reversed(origin.parts):  # where parts overlap, the later one counts
        count = math.prod(s.stop - s.start for s in part.where) if part.where else whole - covered
        count = max(0, min(count, whole - covered))
        found = _of_part(part.law, part.values, _sizes(part.where, origin.shape))
        if found is None:
            return None
        covered += count
        mean, second = mean + found[0] * count, second + found[1] * count
    return None if not covered else (mean / covered, second / covered)


def _sizes(where: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(s.stop - s.start for s in where) or shape


def _of_part(law: Law | None, values: Tensor | None, shape: tuple[int, ...]) -> tuple[float, float] | None:
    if values is not None:
        return _measured(values)
    if law is None or law.kind == "kept":
        return None
    try:
        mean, second = law.moments(shape)
    except LawError:
        return None
    return float(mean.mean()), float(second.mean())
