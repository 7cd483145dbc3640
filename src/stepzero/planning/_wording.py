"""Lists and counts as the notes of a plan word them."""

from __future__ import annotations

from collections.abc import Iterable


def some(names: Iterable[str], most: int = 4) -> str:
    """List a few names, and say how many there are in all."""
    listed = list(names)
    more = f" … ({len(listed)} in all)" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def keepers(count: int) -> str:
    """Say how many parameters keep their values."""
    return "1 parameter keeps its values" if count == 1 else f"{count} parameters keep their values"
