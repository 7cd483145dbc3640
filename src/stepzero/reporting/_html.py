"""A document as an HTML fragment: a section that fits into a notebook or a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ._document import Document, Heading, Items, Table
from ._page import OPENING


def html(document: Document) -> str:
    """Return a document as one `<section>`, every cell escaped, without scripts or links to elsewhere."""
    parts = [OPENING, f"<h2>{escape(document.title)}</h2>"]
    for block in document.blocks:
        if isinstance(block, Table):
            parts += _table(block)
        elif isinstance(block, Items):
            parts += ["<ul>", *(f"<li>{escape(line)}</li>" for line in block.lines), "</ul>"]
        elif isinstance(block, Heading):
            parts.append(f"<h3>{escape(block.title)}</h3>")
        else:
            parts.append(f"<p>{escape(block)}</p>")
    return "\n".join([*parts, "</section>"]) + "\n"


def _table(table: Table) -> list[str]:
    aligns = [column.align for column in table.columns]
    titles = tuple(column.title for column in table.columns)
    body = [_row("td", row, aligns, flagged=at in table.flagged) for at, row in enumerate(table.rows)]
    return ["<table>", "<thead>", _row("th", titles, aligns), "</thead>", "<tbody>", *body, "</tbody>", "</table>"]


def _row(tag: str, cells: tuple[str, ...], aligns: Sequence[str], *, flagged: bool = False) -> str:
    made = (
        f'<{tag} style="text-align:{align}">{escape(cell)}</{tag}>' for cell, align in zip(cells, aligns, strict=True)
    )
    mark = ' class="flagged"' if flagged else ""
    return f"<tr{mark}>{''.join(made)}</tr>"
