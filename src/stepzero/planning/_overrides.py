"""What the user decides instead of the planner: patterns of parameter names, each with a law or a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from stepzero.errors import PlanError
from stepzero.laws import Law, Recipe, recipe


@dataclass(frozen=True, slots=True)
class Override:
    """A pattern (as in a shell: * and ?) and what parameters that match it are drawn from."""

    pattern: str
    choice: Law | Recipe


def read_overrides(overrides: Iterable[tuple[str, Any]] | None, names: Sequence[str]) -> dict[str, Override]:
    """Return the override of each parameter that one matches; the first match wins.

    Raises:
        PlanError: if an entry is no pair of pattern and law, or matches nothing.
    """
    chosen: dict[str, Override] = {}
    for entry in overrides or ():
        override = _read(entry)
        hits = [name for name in names if fnmatchcase(name, override.pattern)]
        if not hits:
            close = get_close_matches(override.pattern.strip("*."), names, n=3, cutoff=0.4)
            near = f" Near it: {', '.join(close)}." if close else ""
            raise PlanError(f"override {override.pattern!r} matches none of the {len(names)} parameters.{near}")
        for name in hits:
            chosen.setdefault(name, override)
    return chosen


def _read(entry: Any) -> Override:
    if not (isinstance(entry, (tuple, list)) and len(entry) == 2 and isinstance(entry[0], str)):
        raise PlanError(
            f"override {entry!r} is not a pair (pattern, law or recipe), such as ('*.head.weight', Normal(0.02))."
        )
    pattern, choice = entry
    if isinstance(choice, str):
        choice = recipe(choice)
    if not isinstance(choice, (Law, Recipe)):
        raise PlanError(
            f"override {pattern!r}: {choice!r} is neither a law nor a recipe. Give one of stepzero.laws, such as Normal(0.02) or Kaiming()."
        )
    return Override(pattern, choice)
