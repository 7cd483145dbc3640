"""A document as an HTML fragment: a section that fits into a notebook or a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ._document import Document, Items, Table


def html(document: Document) -> str:
    """Return a document as one `<section>`, every cell escaped, without scripts or links to elsewhere."""
    parts = ['<section class="stepzero">', f"<h2>{escape(document.title)}</h2>"]
    for block in document.blocks:
        if isinstance(block, Table):
            parts += _table(block)
        elif isinstance(block, Items):
            parts += ["<ul>", *(f"<li>{escape(line)}</li>" for line in block.lines), "</ul>"]
        else:
            parts.append(f"<p>{escape(block)}</p>")
    return "\n".join([*parts, "</section>"]) + "\n"


def _table(table: Table) -> list[str]:
    aligns = [column.align for column in table.columns]
    titles = tuple(column.title for column in table.columns)
    body = [_row("td", row, aligns) for row in table.rows]
    return ["<table>", "<thead>", _row("th", titles, aligns), "</thead>", "<tbody>", *body, "</tbody>", "</table>"]


def _row(tag: str, cells: tuple[str, ...], aligns: Sequence[str]) -> str:
    made = (
        f'<{tag} style="text-align:{align}">{escape(cell)}</{tag}>' for cell, align in zip(cells, aligns, strict=True)
    )
    return f"<tr>{''.join(made)}</tr>"
