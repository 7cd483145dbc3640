"""What a check says: a row for each weight op, and a verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from stepzero import reporting

REPR_ROWS = 40  # a notebook cell is not the place for a thousand rows; print(check) shows them all


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One weight op: what was predicted of its output, what was measured, and whether both agree."""

    name: str  # the weight's parameter, or the op where it has none of its own
    op: str
    module: str
    predicted: float  # E[y²]
    measured: float
    ratio: float
    local_predicted: float  # E[y²] / E[x²] of this op alone, from the measured input
    local_measured: float
    z: float  # of the cumulative ratio, in standard deviations that finite width allows
    local_z: float
    gradient_predicted: float | None
    gradient_measured: float | None
    spread: float | None  # 1 - E[y y'] / E[y²] over inputs
    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Check:
    """A model held against its prediction."""

    rows: tuple[CheckRow, ...]
    verdict: str
    ok: bool
    draws: int = 1
    false_alarms: float = 0.01
    tolerance: float = 0.2
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain data."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows], "notes": list(self.notes)}

    def to_markdown(self) -> str:
        """Return the check as Markdown."""
        return reporting.markdown(reporting.check_document(self))

    def to_html(self) -> str:
        """Return the check as an HTML section."""
        return reporting.html(reporting.check_document(self))

    def __str__(self) -> str:
        return reporting.text(reporting.check_document(self))

    def __repr__(self) -> str:
        return reporting.text(reporting.check_document(self, most=REPR_ROWS))

    def _repr_html_(self) -> str:
        return reporting.html(reporting.check_document(self, most=REPR_ROWS))
