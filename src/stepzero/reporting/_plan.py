"""A plan as a document: one row for each weight, one line for all parameters that share a constant."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ._cells import count, fan, law_name, number, shape
from ._document import Column, Document, Items, Table

if TYPE_CHECKING:
    from stepzero.planning import Entry, Plan

COLUMNS = (
    Column("Parameter", "left", overflow=True),
    Column("Shape", "left"),
    Column("Law", "left"),
    Column("Fan in"),
    Column("Gain"),
    Column("Std"),
    Column("E[z²]"),
    Column("E[g²]"),
)
LEGEND = (
    "E[z²]: predicted second moment of the output that the weight feeds. E[g²]: of the gradient there, per unit of "
    "output gradient. Gain: std·√(fan in)."
)
NAMES = 3  # how many names a line quotes before it counts


def plan_document(plan: Plan, *, everything: bool = False, most: int | None = None) -> Document:
    """Return a plan as a document.

    Args:
        plan: The plan.
        everything: Whether every parameter has a row, and every reason is given; else weights alone have rows, and
            the parameters that share a constant, or are kept, share a line.
        most: Fold the middle of the table where it has more rows than this.
    """
    entries = tuple(plan.values())
    listed = [entry for entry in entries if everything or _has_row(entry)]
    shared = [entry for entry in entries if not (everything or _has_row(entry))]
    table = Table(COLUMNS, tuple(map(_row, listed))).folded(most)
    reasons = Items(tuple(f"{entry.name}: {'; '.join(entry.reasons)}" for entry in entries if entry.reasons))
    blocks = (_facts(plan), table, Items(tuple(_lines(shared))), LEGEND if listed else "", Items(plan.notes))
    return Document.of(_title(plan), (*blocks, reasons) if everything else blocks)


def _title(plan: Plan) -> str:
    return f"Plan for {plan.model or 'a model'}, goal {plan.goal}"


def _facts(plan: Plan) -> str:
    drawn = sum(entry.law.kind != "kept" for entry in plan.values())
    values = sum(math.prod(entry.shape) for entry in plan.values())
    facts = f"{len(plan)} parameters, {count(values)} values; {drawn} drawn, {len(plan) - drawn} kept."
    return f"{facts} Inputs: {plan.inputs}." if plan.inputs else facts


def _has_row(entry: Entry) -> bool:
    return entry.fan_in is not None or entry.law.kind not in ("constant", "kept")


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        shape(entry.shape),
        law_name(entry.law),
        fan(entry.fan_in),
        number(entry.gain),
        number(entry.std),
        number(entry.second_moment),
        number(entry.gradient_second_moment),
    )


def _lines(entries: Iterable[Entry]) -> list[str]:
    """Return one line for each law that several parameters share."""
    groups: dict[str, list[str]] = {}
    for entry in entries:
        groups.setdefault(law_name(entry.law), []).append(entry.name)
    return [f"{law}: {_names(names)}" for law, names in groups.items()]


def _names(names: list[str]) -> str:
    if len(names) <= NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:NAMES])} and {len(names) - NAMES} more"
