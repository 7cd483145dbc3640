"""Findings as a document: what was found, one row for each rule, then each rule's places and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._document import Block, Column, Document, Heading, Items, Table

if TYPE_CHECKING:
    from stepzero.checking import Finding, Findings

COLUMNS = (Column("Rule", "left"), Column("Severity", "left"), Column("Places"), Column("First", "left", overflow=True))
PLACES = 3  # how many places of one rule are told in full


def findings_document(findings: Findings, *, everything: bool = False) -> Document:
    """Return findings as a document.

    Args:
        findings: The findings.
        everything: Whether every place is told; else the first few of each rule are, and the others are counted.
    """
    rules = findings.by_rule()
    errors = frozenset(at for at, found in enumerate(rules.values()) if found[0].severity == "error")
    table = Table(COLUMNS, tuple(_row(name, found) for name, found in rules.items()), errors)
    told = [block for name, found in rules.items() for block in _told(name, found, findings, everything)]
    return Document.of(_title(findings), (_summary(findings), table, *told, Items(findings.notes)))


def _title(findings: Findings) -> str:
    verdict = "clean" if not findings else ("pass" if findings.ok else "FAIL")
    return f"Lint of {findings.model or 'a model'}: {verdict}"


def _summary(findings: Findings) -> str:
    counts = [(len(findings.of(severity)), severity) for severity in ("error", "warning", "note")]
    said = [_many(count, severity) for count, severity in counts if count]
    return f"{', '.join(said) or 'Nothing found'}; {_many(len(findings.rules), 'rule')} asked."


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _row(name: str, found: tuple[Finding, ...]) -> tuple[str, ...]:
    return name, found[0].severity, str(len(found)), found[0].where


def _told(name: str, found: tuple[Finding, ...], findings: Findings, everything: bool) -> list[Block]:
    """Return a rule's heading, its places with their messages, and one line for each way to mend them."""
    source = findings.sources.get(name, "")
    shown = found if everything else found[:PLACES]
    lines = [f"{f.where}: {f.message}" for f in shown]
    if len(found) > len(shown):
        lines.append(f"and {len(found) - len(shown)} more, up to {found[-1].where}")
    fixes = list(dict.fromkeys(f.fix for f in found if f.fix))
    lines += [f"→ {fix}" for fix in (fixes if everything else fixes[:1])]
    return [Heading(f"{found[0].severity}: {name}{f' ({source})' if source else ''}"), Items(tuple(lines))]
