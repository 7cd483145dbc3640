"""What lint found: findings as values, each with its rule, its place, its evidence and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

from stepzero import reporting

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # worst first


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a model's init gets wrong, or that a reader should know of it.

    Args:
        rule: The rule that speaks: a key of `LINTS`.
        severity: "error": the model cannot learn as it stands, or a value is not what its author wrote. "warning": a scale or a
            value is off. "note": a matter of taste, or too small to matter alone.
        where: The parameter or module, by its path.
        message: What is wrong, with the numbers.
        evidence: The numbers themselves.
        fix: What to do.

    Raises:
        ValueError: if the severity is none of those.
    """

    rule: str
    severity: Severity
    where: str
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    fix: str = ""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity={self.severity!r} is not one of {', '.join(SEVERITIES)}.")
        object.__setattr__(self, "evidence", MappingProxyType(dict(self.evidence)))

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain data."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "where": self.where,
            "message": self.message,
            "evidence": dict(self.evidence),
            "fix": self.fix,
        }

    def __str__(self) -> str:
        return f"{self.severity} {self.rule} at {self.where}: {self.message} {self.fix}".rstrip()


@dataclass(frozen=True, slots=True, repr=False)
class Findings:
    """All findings of one model, worst first; an iterable with a length, empty where nothing is wrong.

    Args:
        findings: The findings.
        model: The model's class.
        rules: The rules that were asked.
        sources: Where each rule comes from.
        notes: What could not be looked at, and why.
    """

    findings: tuple[Finding, ...]
    model: str = ""
    rules: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        worst_first = sorted(self.findings, key=lambda f: SEVERITIES.index(f.severity))
        object.__setattr__(self, "findings", tuple(worst_first))

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings and notes may stand."""
        return not self.of("error")

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings of one severity."""
        return tuple(f for f in self.findings if f.severity == severity)

    def by_rule(self) -> dict[str, tuple[Finding, ...]]:
        """Return the findings of each rule that found any, worst rule first."""
        names = dict.fromkeys(f.rule for f in self.findings)
        return {name: tuple(f for f in self.findings if f.rule == name) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as plain data."""
        return {
            "model": self.model,
            "ok": self.ok,
            "counts": {severity: len(self.of(severity)) for severity in SEVERITIES},
            "findings": [f.to_dict() for f in self.findings],
            "rules": list(self.rules),
            "notes": list(self.notes),
        }

    def to_markdown(self) -> str:
        """Return the findings as Markdown."""
        return reporting.markdown(reporting.findings_document(self))

    def to_html(self) -> str:
        """Return the findings as an HTML section."""
        return reporting.html(reporting.findings_document(self))

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, at: int) -> Finding:
        return self.findings[at]

    def __str__(self) -> str:
        return reporting.text(reporting.findings_document(self))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.to_html()
