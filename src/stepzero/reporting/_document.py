"""What a report is made of, before it becomes text, Markdown or HTML: a title and blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Align = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        title: What stands above it.
        align: Where its cells stand.
        overflow: Whether a cell that is too long for a narrow page may stand on a line of its own.
    """

    title: str
    align: Align = "right"
    overflow: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, and rows of cells that are already text.

    Args:
        columns: The columns.
        rows: The rows.
        flagged: Which rows stand out on a page.

    Raises:
        ValueError: if a row has another number of cells than there are columns.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    flagged: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells under {len(self.columns)} columns: {row}")

    def folded(self, most: int | None) -> Table:
        """Return the table with its middle rows replaced by one that counts them, where there are more than `most`."""
        if most is None or len(self.rows) <= most:
            return self
        above, missing = (most + 1) // 2, len(self.rows) - most
        head, tail = self.rows[:above], self.rows[above + missing :]
        gap = (f"… {missing} more rows …", *[""] * (len(self.columns) - 1))
        flagged = {at for at in self.flagged if at < above} | {
            at - missing + 1 for at in self.flagged if at >= above + missing
        }
        return Table(self.columns, (*head, gap, *tail), frozenset(flagged))


@dataclass(frozen=True, slots=True)
class Items:
    """A list of short lines."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """A title within a document."""

    title: str


Block: TypeAlias = str | Table | Items | Heading


@dataclass(frozen=True, slots=True)
class Document:
    """A title, and paragraphs, tables and lists beneath it."""

    title: str
    blocks: tuple[Block, ...] = ()

    @classmethod
    def of(cls, title: str, blocks: Sequence[Block]) -> Document:
        """Return the document without the blocks that are empty."""
        return cls(title, tuple(block for block in blocks if not _is_empty(block)))


def _is_empty(block: Block) -> bool:
    if isinstance(block, Table):
        return not block.rows
    if isinstance(block, Heading):
        return False
    return not (block.lines if isinstance(block, Items) else block)
