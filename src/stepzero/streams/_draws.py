"""Law → the numbers that turn words into its values: scale, quantile levels, clamp and shift."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from scipy.special import ndtr

from stepzero.errors import LawError
from stepzero.laws import Law, Normal, TruncatedNormal, Uniform

ALL = 2**32


@dataclass(frozen=True, slots=True)
class Draw:
    """How the words of one stream become float32 values: `clamp(f(level) · scale) + shift`.

    Args:
        kind: Uniform, or the normal quantile.
        scale: RN32(β·2^-24) of a uniform on (-β, β); RN32(σ·2^-26) of a normal.
        low: First quantile level of a truncated normal.
        span: Number of its levels; 2^32 where nothing is cut.
        clamp: RN32 of the cuts, in the units of the values.
        shift: What is added in binary64 before the last rounding to binary32; 0 adds nothing.
    """

    kind: Literal["uniform", "normal"]
    scale: np.float32
    low: int = 0
    span: int = ALL
    clamp: tuple[np.float32, np.float32] = (np.float32(-np.inf), np.float32(np.inf))
    shift: float = 0.0


def draw_of(law: Law, part: float = 1.0) -> Draw:
    """Return how to draw `law`, its spread times `part` (√½ for each half of a complex number).

    Raises:
        LawError: if binary32 cannot hold the law.
    """
    made = DRAWS[type(law)](law, part)
    if not np.finfo(np.float32).tiny <= made.scale < np.inf:
        raise LawError(f"{law!r} is out of the range of float32. Rescale it.")
    return made


def standard_draw(law: Law) -> tuple[Draw, float, float]:
    """Return how to draw a law around 0 at scale 1, the centre and the scale: its values are centre + scale · draw, in binary64.

    So that no value of a uniform reaches an end, as rounding at its own scale could let it.
    """
    if isinstance(law, Uniform):
        return draw_of(Uniform(-1.0, 1.0)), law.mean, (law.high - law.low) / 2
    if isinstance(law, Normal):
        return draw_of(Normal(1.0)), law.mean, law.std
    assert isinstance(law, TruncatedNormal)
    parent = replace(law, std=law.std / law.parent_std)
    return draw_of(parent), 0.0, law.parent_std


def _uniform(law: Uniform, part: float) -> Draw:
    return Draw("uniform", np.float32((law.high - law.low) / 2 * part * 2.0**-24), shift=law.mean)


def _normal(law: Normal, part: float) -> Draw:
    return Draw("normal", np.float32(law.std * part * 2.0**-26), shift=law.mean)


def _truncated(law: TruncatedNormal, part: float) -> Draw:
    first, last = cut_level(law.low), cut_level(law.high)
    if first == last:
        raise LawError(f"{law!r}: no quantile level lies between its cuts. Widen them.")
    parent = law.parent_std * part
    clamp = (np.float32(law.low * parent), np.float32(law.high * parent))
    return replace(_normal(Normal(parent), 1.0), low=first, span=last - first, clamp=clamp)


@lru_cache(maxsize=256)
def cut_level(sigmas: float) -> int:
    """Return the integer nearest to 2^32·Φ(sigmas): the quantile level at which a normal is cut (`stepzero-v1`, section 4).

    Raises:
        LawError: if 2^32·Φ lies within 1e-3 of a half-integer, where two libraries could round apart.
    """
    if sigmas in LEVELS:
        return LEVELS[sigmas]
    exact = ALL * float(ndtr(sigmas))
    if abs(exact - math.floor(exact) - 0.5) < 1e-3:
        raise LawError(f"a cut at {sigmas!r} standard deviations falls between two quantile levels. Move it by 1e-6.")
    return round(exact)


# Shipped, so that no library's Φ decides the usual cuts.
LEVELS: Mapping[float, int] = MappingProxyType({
    -3.0: 5797768, -2.0: 97711073, -1.0: 681419127, 1.0: 3613548169, 2.0: 4197256223, 3.0: 4289169528,
})  # fmt: skip
DRAWS: Mapping[type[Law], Callable[[Any, float], Draw]] = MappingProxyType({
    Uniform: _uniform, Normal: _normal, TruncatedNormal: _truncated,
})  # fmt: skip
