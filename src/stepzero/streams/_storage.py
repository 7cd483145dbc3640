"""The number formats that values are stored in, and whether a format can hold a law at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepzero.errors import LawError
from stepzero.laws import (
    Constant,
    DeltaOrthogonal,
    Identity,
    Law,
    Mapped,
    Normal,
    Norms,
    Orthogonal,
    Sparse,
    Sphere,
    TruncatedNormal,
    Uniform,
    Values,
)

LARGEST_SIGMA = 6.24  # no normal value lies further out: the last quantile level is at 6.2303


@dataclass(frozen=True, slots=True)
class Storage:
    """A number format.

    Args:
        name: As torch and safetensors spell it.
        numpy: Type of the array that holds it; bfloat16 is held as its 16 bits, since NumPy has no such type.
        digits: Bits of the significand, the hidden one included.
        tiny: Smallest subnormal number.
        largest: Largest finite number.
        parts: 1, or 2 for complex numbers.
    """

    name: str
    numpy: np.dtype[Any]
    digits: int
    tiny: float
    largest: float
    parts: int = 1

    def spacing(self, value: float) -> float:
        """Return the distance between neighbouring numbers at `value`."""
        exponent = math.frexp(abs(value))[1] if value else -5000
        return float(max(math.ldexp(1.0, exponent - self.digits), self.tiny))


def storage(dtype: str | np.dtype[Any] | type[Any], held: np.dtype[Any] | None = None) -> Storage:
    """Return the format called `dtype`, and check that an array of type `held` can hold it.

    Raises:
        LawError: if the format is unknown, or the array is of another type.
    """
    name = dtype.removeprefix("torch.") if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in STORAGES:
        hint = " For bfloat16 bits say dtype='bfloat16'." if name == "uint16" else ""
        raise LawError(f"dtype={name!r} holds no random numbers. Choose one of {', '.join(STORAGES)}.{hint}")
    found = STORAGES[name]
    if held is not None and held != found.numpy:
        raise LawError(f"an array of {held} cannot hold {name}: it takes {found.numpy}.")
    return found


def require_fit(law: Law, dtype: str | np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Raise LawError if rounding to `dtype` would swallow the law's spread, lose its value, or overflow.

    A spread is swallowed where one standard deviation is less than the distance between neighbouring numbers at the mean.
    """
    kind = storage(dtype)
    if type(law) not in _EXTENT:
        return
    centre, spread, extreme = _EXTENT[type(law)](law, shape)
    if spread and spread < kind.spacing(centre):
        raise LawError(
            f"{kind.name} cannot hold {law!r}: its numbers lie {kind.spacing(centre):.2g} apart at {centre:g}. Take float32."
        )
    if not spread and centre and abs(centre) < kind.tiny / 2:
        raise LawError(f"{kind.name} cannot hold {law!r}: it would be 0. Take float32.")
    if extreme > kind.largest:
        raise LawError(
            f"{kind.name} cannot hold {law!r}: it reaches {extreme:.3g}, the format ends at {kind.largest:.3g}."
        )


Extent = tuple[float, float, float]  # mean, standard deviation, largest magnitude


def _matrix(law: Law, shape: tuple[int, ...]) -> Extent:
    spread = math.sqrt(float(law.moments(shape)[1].max(initial=0.0)))
    return 0.0, spread, LARGEST_SIGMA * spread


_EXTENT: Mapping[type[Law], Callable[[Any, tuple[int, ...]], Extent]] = MappingProxyType({
    Normal: lambda law, _: (law.mean, law.std, abs(law.mean) + LARGEST_SIGMA * law.std),
    TruncatedNormal: lambda law, _: (law.mean, law.std, max(abs(law.low), abs(law.high)) * law.parent_std),
    Uniform: lambda law, _: (law.mean, law.std, max(abs(law.low), abs(law.high))),
    Constant: lambda law, _: (law.value, 0.0, abs(law.value)),
    Identity: lambda law, _: (law.gain, 0.0, abs(law.gain)),
    Values: lambda law, _: (0.0, 0.0, float(abs(law.array).max(initial=0.0))),
    Mapped: lambda law, _: (law.mean, law.std, law.reach),
    Orthogonal: _matrix, DeltaOrthogonal: _matrix, Sparse: _matrix, Sphere: _matrix, Norms: _matrix,
})  # fmt: skip

_F16, _F32, _F64 = (np.finfo(kind) for kind in (np.float16, np.float32, np.float64))
_BF16_MAX = float(np.array([0x7F7F0000], np.uint32).view(np.float32)[0])

STORAGES: Mapping[str, Storage] = MappingProxyType(
    {
        found.name: found
        for found in (
            Storage("float32", np.dtype(np.float32), 24, float(_F32.smallest_subnormal), float(_F32.max)),
            Storage("float64", np.dtype(np.float64), 53, float(_F64.smallest_subnormal), float(_F64.max)),
            Storage("float16", np.dtype(np.float16), 11, float(_F16.smallest_subnormal), float(_F16.max)),
            Storage("bfloat16", np.dtype(np.uint16), 8, 2.0**-133, _BF16_MAX),
            Storage("complex64", np.dtype(np.complex64), 24, float(_F32.smallest_subnormal), float(_F32.max), 2),
            Storage("complex128", np.dtype(np.complex128), 53, float(_F64.smallest_subnormal), float(_F64.max), 2),
        )
    }
)


def empty(shape: tuple[int, ...], kind: Storage) -> NDArray[Any]:
    """Return an unwritten array that holds this format."""
    return np.empty(shape, kind.numpy)
