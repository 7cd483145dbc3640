"""What a lint rule is: a function from what is known of a model to the spots that it finds, with a source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stepzero.checking._findings import Finding, Severity
from stepzero.checking._stock import Stock


@dataclass(frozen=True, slots=True)
class Spot:
    """A finding before it knows its rule's name."""

    severity: Severity
    where: str
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    fix: str = ""

    def by(self, rule: str) -> Finding:
        """Return the finding of this rule."""
        return Finding(rule, self.severity, self.where, self.message, self.evidence, self.fix)


@dataclass(frozen=True, slots=True)
class Lint:
    """A rule.

    Args:
        find: From what is known of a model to what is wrong with it.
        about: What it looks for, in half a sentence.
        source: The paper, or the thread where people met it.
        needs_inputs: Whether it reads the predicted signal, and so needs example inputs.
    """

    find: Callable[[Stock], Iterable[Spot]]
    about: str
    source: str
    needs_inputs: bool = False


def off(factor: float, normalised: bool | None) -> Severity:
    """Return how much it matters that a standard deviation is off by a factor: a normalisation behind it hides that."""
    times = max(factor, 1 / factor) if factor > 0 else float("inf")
    if times < 1.5:
        return "note"
    return "error" if times >= 4 and normalised is False else "warning"


def times(factor: float) -> str:
    """Return a factor in words: 31x too small."""
    return f"{1 / factor:.3g}x too small" if factor < 1 else f"{factor:.3g}x too large"
