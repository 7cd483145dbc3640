"""A document as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from ._document import Document, Heading, Items, Table

SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")
RULES = {"left": ":---", "right": "---:"}


def markdown(document: Document) -> str:
    """Return a document as Markdown, with a newline at its end."""
    parts = [f"## {_escape(document.title)}"]
    for block in document.blocks:
        if isinstance(block, Table):
            parts.append(_table(block))
        elif isinstance(block, Items):
            parts.append("\n".join(f"- {_escape(line)}" for line in block.lines))
        elif isinstance(block, Heading):
            parts.append(f"### {_escape(block.title)}")
        else:
            parts.append(_escape(block))
    return "\n\n".join(parts) + "\n"


def _escape(cell: str) -> str:
    return SPECIAL.sub(r"\\\1", cell)


def _table(table: Table) -> str:
    rows = [
        tuple(column.title for column in table.columns),
        *table.rows,
    ]
    lines = [f"| {' | '.join(map(_escape, row))} |" for row in rows]
    rule = f"| {' | '.join(RULES[column.align] for column in table.columns)} |"
    return "\n".join([lines[0], rule, *lines[1:]])
