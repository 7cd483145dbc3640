"""Numbers, shapes and laws as short cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepzero.laws import Law

UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` significant digits, in at most digits + 5 characters; "-" for None.

    Examples:
        >>> number(0.0481125), number(27.0), number(1.5e-7), number(None)
        ('0.0481', '27', '1.5e-07', '-')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(float(value))
    value = value or 0.0  # no -0
    return f"{value:.{digits}g}" if abs(value) < 1e5 else f"{value:.{digits - 1}e}"


def fan(value: float | None) -> str:
    """Return a fan: whole where it is whole, else with one decimal (borders make fans uneven).

    Examples:
        >>> fan(576.0), fan(534.83), fan(None)
        ('576', '534.8', '-')
    """
    if value is None:
        return "-"
    return f"{value:.0f}" if value == round(value) or value >= 1e4 else f"{value:.1f}"


def shape(sizes: tuple[int, ...]) -> str:
    """Return a shape as 64×3×7×7.

    Examples:
        >>> shape((64, 3, 7, 7)), shape(())
        ('64×3×7×7', 'scalar')
    """
    return "×".join(map(str, sizes)) or "scalar"


def count(value: int) -> str:
    """Return a count with a unit.

    Examples:
        >>> count(138_357_544), count(64)
        ('138.4 M', '64')
    """
    for size, unit in UNITS:
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return str(value)


def law_name(law: Law) -> str:
    """Return a law's kind, without the standard deviation that has a column of its own.

    Examples:
        >>> from stepzero.laws import Constant, Normal
        >>> law_name(Normal(0.1)), law_name(Constant(1.0))
        ('normal', 'constant 1')
    """
    if law.kind == "constant":
        return f"constant {number(law.mean)}"
    return law.kind.replace("truncated_", "trunc. ").replace("_", " ")
