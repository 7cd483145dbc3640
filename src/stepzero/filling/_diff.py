"""What differs between two plans, models, manifests or checkpoints: shape, format, scale, law, seed, or nothing but the bits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from stepzero import reporting
from stepzero.reporting import Column, Document, Table

from ._facts import Facts, facts_of
from ._renames import renamed


@dataclass(frozen=True, slots=True)
class Difference:
    """One tensor that differs.

    Args:
        name: Canonical name.
        what: `missing`, `shape`, `dtype`, `scale` (one law is the other times a factor), `law`, `seed` or `bits`: the first of these
            that differs and would explain the bits.
        first: What it is on the first side, in words.
        second: What it is on the second side, in words.
        factor: Root mean square of the second over that of the first, where both are known.
    """

    name: str
    what: str
    first: str
    second: str
    factor: float | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Diff:
    """Every tensor that differs.

    Args:
        differences: In the order of the first side, then those that only the second has.
        same: Number of tensors that do not differ.
    """

    differences: tuple[Difference, ...]
    same: int

    def __bool__(self) -> bool:
        """Say whether anything differs."""
        return bool(self.differences)

    def to_dict(self) -> dict[str, Any]:
        """Return the differences as plain data."""
        fields = ("name", "what", "first", "second", "factor")
        return {
            "same": self.same,
            "differences": [{key: getattr(row, key) for key in fields} for row in self.differences],
        }

    def to_markdown(self) -> str:
        """Return the differences as Markdown."""
        return reporting.markdown(self._document())

    def to_html(self) -> str:
        """Return the differences as an HTML section."""
        return reporting.html(self._document())

    def __str__(self) -> str:
        return reporting.text(self._document())

    __repr__ = __str__

    def _document(self) -> Document:
        titles = ("tensor", "differs in", "first", "second", "factor")
        columns = tuple(Column(title, "left", overflow=title == "tensor") for title in titles)
        rows = tuple(
            (row.name, row.what, row.first, row.second, "" if row.factor is None else f"{row.factor:.4g}")
            for row in self.differences
        )
        kinds = Counter(row.what for row in self.differences)
        counts = f" In {', '.join(f'{what}: {count}' for what, count in kinds.most_common())}." if kinds else ""
        told = f"{len(rows)} tensors differ, {self.same} do not.{counts}"
        return Document.of("Differences", [told, Table(columns, rows)])


def diff(first: Any, second: Any, *, names: Iterable[str] = ()) -> Diff:
    """Return which tensors differ, and in what.

    Args:
        first: A plan, a `torch.nn.Module`, a `Manifest`, or the path of a manifest, a safetensors file or a folder of shards.
            Of a model on meta that `stepzero.build` made, the laws of its author are compared.
        second: Another; the two may be of different kinds, and are compared in what both know.
        names: Rules OLD=NEW that give tensors of the first side the names of the second, in order: shell patterns whose * is
            carried over, `re:` and a regular expression, or OLD[0:64]=NEW for rows of a packed tensor.

    Raises:
        FileError: if a path cannot be read.
        RenameError: if a rule cannot be read, has no effect, or gives two tensors one name.
        TypeError: if a side is none of these.
    """
    one, other = renamed(facts_of(first), names), facts_of(second)
    found = [row for name in {**one, **other} if (row := _difference(name, one.get(name), other.get(name)))]
    return Diff(tuple(found), len({**one, **other}) - len(found))


def _difference(name: str, one: Facts | None, other: Facts | None) -> Difference | None:
    if one is None or other is None:
        there = "there"
        return Difference(name, "missing", there if one else "-", there if other else "-")
    for what in ("shape", "dtype"):
        if (a := getattr(one, what)) != (b := getattr(other, what)):
            return Difference(name, what, str(a), str(b))
    if one.sha256 and other.sha256 and one.sha256 == other.sha256:
        return None
    factor = other.size / one.size if one.size and other.size else None
    if one.law is not None and other.law is not None and not _close(one.law.to_dict(), other.law.to_dict(), 1.0):
        scaled = factor is not None and _close(one.law.to_dict(), other.law.to_dict(), factor)
        return Difference(name, "scale" if scaled else "law", str(one.law), str(other.law), factor)
    if one.seed is not None and other.seed is not None and one.seed != other.seed:
        return Difference(name, "seed", str(one.seed), str(other.seed))
    if one.sha256 and other.sha256:
        return Difference(name, "bits", one.sha256[:12], other.sha256[:12], factor)
    return None


# What a factor multiplies in each law; all other settings are pure numbers.
SCALES = frozenset({"std", "mean", "low", "high", "gain", "value"})
PURE = {"truncated_normal": frozenset({"low", "high"})}  # cuts, in standard deviations


def _close(one: Any, other: Any, factor: float, key: str = "") -> bool:
    """Say whether the plain data of a law, times a factor, is that of another to six digits."""
    if isinstance(one, dict):
        pure = PURE.get(one.get("law", ""), frozenset())
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(_close(one[k], other[k], factor, "" if k in pure else k) for k in one)
        )
    if isinstance(one, list):
        return (
            isinstance(other, list)
            and len(one) == len(other)
            and all(_close(a, b, factor) for a, b in zip(one, other, strict=True))
        )
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one * (factor if key in SCALES else 1.0), other, rel_tol=1e-6)
    return bool(one == other)
