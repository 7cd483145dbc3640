"""A chain of steps, each with its reason, its equations and its source: as text, Markdown, and HTML with MathML."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ._formula import Equation, as_latex, as_mathml, as_text
from ._page import OPENING


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an explanation.

    Args:
        title: What the step shows, as a short sentence.
        why: The reason, in plain words.
        equations: The step in symbols and in numbers.
        source: Where it is published.
    """

    title: str
    why: str
    equations: tuple[Equation, ...] = ()
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the step as plain data, its equations as text."""
        return {
            "title": self.title,
            "why": self.why,
            "equations": [str(equation) for equation in self.equations],
            "source": self.source,
        }


def explanation_text(title: str, steps: Sequence[Step], width: int = 80) -> str:
    """Return the steps as text of a width, equations on lines of their own."""
    lines = [title, "─" * min(len(title), width)]
    for number, step in enumerate(steps, 1):
        lines += ["", f"{number}. {step.title}"]
        lines += textwrap.wrap(step.why, width - 3, initial_indent="   ", subsequent_indent="   ")
        lines += [line for equation in step.equations for line in _fitted(equation, width)]
        lines += [f"   [{step.source}]"] if step.source else []
    return "\n".join(lines) + "\n"


def explanation_markdown(title: str, steps: Sequence[Step]) -> str:
    """Return the steps as Markdown, equations in dollar signs."""
    lines = [f"## {title}"]
    for number, step in enumerate(steps, 1):
        lines += ["", f"### {number}. {step.title}", "", step.why]
        for equation in step.equations:
            lines += ["", f"$${' = '.join(as_latex(side) for side in equation.sides)}$$"]
        lines += ["", f"*{step.source}*"] if step.source else []
    return "\n".join(lines) + "\n"


def explanation_html(title: str, steps: Sequence[Step]) -> str:
    """Return the steps as one `<section>`, equations in MathML, without scripts or links to elsewhere."""
    lines = [OPENING, f"<h2>{escape(title)}</h2>", "<ol>"]
    for step in steps:
        lines += ["<li>", f"<h3>{escape(step.title)}</h3>", f"<p>{escape(step.why)}</p>"]
        for equation in step.equations:
            sides = "<mo>=</mo>".join(f"<mrow>{as_mathml(side)}</mrow>" for side in equation.sides)
            lines.append(f'<p><math display="block">{sides}</math></p>')
        lines += [f"<p><cite>{escape(step.source)}</cite></p>"] if step.source else []
        lines.append("</li>")
    return "\n".join([*lines, "</ol>", "</section>"]) + "\n"


def _fitted(equation: Equation, width: int) -> list[str]:
    """An equation on one line, or broken before its equals signs."""
    first, *others = [as_text(side) for side in equation.sides]
    line = f"       {' = '.join([first, *others])}"
    if len(line) <= width or not others:
        return [line]
    lead = f"       {first} = "
    return [lead + others[0], *(" " * (len(lead) - 2) + "= " + other for other in others[1:])]
