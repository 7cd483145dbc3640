"""A document for a terminal: aligned columns that fit the width."""

from __future__ import annotations

import textwrap

from ._document import Column, Document, Heading, Items, Table

NARROWEST = 12  # a column that may overflow keeps at least this many characters


def text(document: Document, width: int | None = 80) -> str:
    """Return a document as plain text without a newline at its end.

    Args:
        document: What to show.
        width: Columns of the terminal. Where a table is wider, a cell too long for its column stands on a line of
            its own: names are never cut. None sets no limit, for pipes.
    """
    parts = [_wrap(document.title, width)]
    for block in document.blocks:
        if isinstance(block, Table):
            parts.append(_table(block, width))
        elif isinstance(block, Items):
            parts.append("\n".join(_wrap(f"- {line}", width, hang="  ") for line in block.lines))
        else:
            parts.append(_wrap(block.title if isinstance(block, Heading) else block, width))
    return "\n\n".join(parts)


def _wrap(line: str, width: int | None, hang: str = "") -> str:
    if width is None or len(line) <= width:
        return line
    return "\n".join(textwrap.wrap(line, width, subsequent_indent=hang, break_on_hyphens=False))


def _table(table: Table, width: int | None) -> str:
    cells = [[column.title, *(row[at] for row in table.rows)] for at, column in enumerate(table.columns)]
    widths = [max(map(len, column)) for column in cells]
    gap = "  " if width is None or sum(widths) + 2 * (len(widths) - 1) <= width else " "
    widths = _fit(widths, table.columns, width, len(gap))
    titles = tuple(column.title for column in table.columns)
    lines = [line for row in (titles, *table.rows) for line in _lines(row, table.columns, widths, gap)]
    return "\n".join([lines[0], gap.join("─" * w for w in widths), *lines[1:]])


def _fit(widths: list[int], columns: tuple[Column, ...], width: int | None, gap: int) -> list[int]:
    """Return the widths with what does not fit on the page taken from the columns that may overflow."""
    excess = 0 if width is None else sum(widths) + gap * (len(widths) - 1) - width
    fitted = []
    for wide, column in zip(widths, columns, strict=True):
        taken = max(0, min(excess, wide - max(NARROWEST, len(column.title)))) if column.overflow else 0
        excess -= taken
        fitted.append(wide - taken)
    return fitted


def _lines(row: tuple[str, ...], columns: tuple[Column, ...], widths: list[int], gap: str) -> list[str]:
    """Return a row as one line, after the cells that are too long for their columns."""
    long = [cell for cell, width in zip(row, widths, strict=True) if len(cell) > width]
    cells = []
    for cell, column, width in zip(row, columns, widths, strict=True):
        short = "" if len(cell) > width else cell
        cells.append(short.ljust(width) if column.align == "left" else short.rjust(width))
    return [*long, gap.join(cells).rstrip()]
