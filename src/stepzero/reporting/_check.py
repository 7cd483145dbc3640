"""A check as a document: the verdict, then predicted against measured for each weight layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._cells import number
from ._document import Column, Document, Items, Table

if TYPE_CHECKING:
    from stepzero.checking import Check, CheckRow

COLUMNS = (
    Column("Layer", "left", overflow=True),
    Column("Predicted"),
    Column("Measured"),
    Column("Ratio"),
    Column("z"),
    Column("Local"),
    Column("Gradient"),
    Column("Spread"),
    Column("", "left"),
)
LEGEND = (
    "Predicted, measured: second moment of the layer's output. z: their distance in standard deviations of a net of this "
    "width. Local: measured over predicted gain of the layer alone. Gradient: measured over predicted second moment of the "
    "gradient. Spread: how far inputs differ there; near 0 the net no longer tells them apart."
)


def check_document(check: Check, *, most: int | None = None) -> Document:
    """Return a check as a document.

    Args:
        check: The check.
        most: Fold the middle of the table where it has more rows than this; rows that fail are told beneath it anyway.
    """
    failed = frozenset(at for at, row in enumerate(check.rows) if not row.ok)
    table = Table(COLUMNS, tuple(map(_row, check.rows)), failed).folded(most)
    failures = Items(tuple(f"{row.name}: {row.message}" for row in check.rows if not row.ok))
    title = f"Check: {'pass' if check.ok else 'FAIL'}"
    return Document.of(title, (check.verdict, table, LEGEND if check.rows else "", failures, Items(check.notes)))


def _row(row: CheckRow) -> tuple[str, ...]:
    return (
        row.name,
        number(row.predicted),
        number(row.measured),
        number(row.ratio),
        number(row.z, digits=2),
        number(_ratio(row.local_measured, row.local_predicted)),
        number(_ratio(row.gradient_measured, row.gradient_predicted)),
        number(row.spread),
        "ok" if row.ok else "FAIL",
    )


def _ratio(measured: float | None, predicted: float | None) -> float | None:
    """Return measured over predicted, None where either is unknown or nothing was predicted."""
    if measured is None or not predicted:
        return None
    return measured / predicted
