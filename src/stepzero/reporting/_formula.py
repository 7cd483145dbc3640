"""A formula as a tree: set as text for a terminal, as LaTeX for Markdown, as MathML for a page, and computed again by a test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Number:
    """A number, printed to so many significant digits."""

    value: float
    digits: int = 5

    def __str__(self) -> str:
        if math.isinf(self.value):
            return "∞"
        whole = float(self.value).is_integer() and abs(self.value) < 1e15
        return f"{int(self.value)}" if whole else f"{self.value:.{self.digits}g}"


@dataclass(frozen=True, slots=True)
class Name:
    """A symbol, such as std or E[φ(z)²]; `sub` stands beneath it."""

    text: str
    sub: str = ""

    def __str__(self) -> str:
        return f"{self.text}_{self.sub}" if self.sub else self.text


@dataclass(frozen=True, slots=True)
class Times:
    """A product."""

    factors: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Plus:
    """A sum."""

    terms: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Over:
    """A fraction."""

    top: Formula
    bottom: Formula


@dataclass(frozen=True, slots=True)
class Root:
    """A square root."""

    inner: Formula


@dataclass(frozen=True, slots=True)
class Square:
    """A square."""

    inner: Formula


Formula: TypeAlias = Number | Name | Times | Plus | Over | Root | Square


@dataclass(frozen=True, slots=True)
class Equation:
    """Formulas that are equal: usually a symbol, what it is in symbols, the same with the numbers put in, and the result."""

    sides: tuple[Formula, ...]

    def __str__(self) -> str:
        return " = ".join(as_text(side) for side in self.sides)


def value(formula: Formula) -> float | None:
    """Return what a formula comes to; None if a symbol in it has no number."""
    if isinstance(formula, Number):
        return formula.value
    if isinstance(formula, Name):
        return None
    parts = [value(part) for part in _parts(formula)]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if isinstance(formula, Times):
        return math.prod(known)
    if isinstance(formula, Plus):
        return sum(known)
    if isinstance(formula, Over):
        return known[0] / known[1]
    return math.sqrt(known[0]) if isinstance(formula, Root) else known[0] ** 2


def as_text(formula: Formula) -> str:
    """Return a formula as a line of text."""
    if isinstance(formula, (Number, Name)):
        return str(formula)
    if isinstance(formula, Over):
        return f"{_tight(formula.top)} / {_tight(formula.bottom)}"
    if isinstance(formula, Root):
        return f"√{_tight(formula.inner)}"
    if isinstance(formula, Square):
        return f"{_tight(formula.inner)}²"
    sign = " · " if isinstance(formula, Times) else " + "
    return sign.join(as_text(part) for part in _parts(formula))


def as_latex(formula: Formula) -> str:
    """Return a formula as LaTeX."""
    if isinstance(formula, Number):
        return str(formula).replace("∞", r"\infty")
    if isinstance(formula, Name):
        text = rf"\text{{{formula.text}}}"
        return rf"{text}_{{\text{{{formula.sub}}}}}" if formula.sub else text
    inner = [as_latex(part) for part in _parts(formula)]
    if isinstance(formula, Over):
        return rf"\frac{{{inner[0]}}}{{{inner[1]}}}"
    if isinstance(formula, Root):
        return rf"\sqrt{{{inner[0]}}}"
    if isinstance(formula, Square):
        return rf"{_braced(formula.inner, inner[0])}^2"
    return (r" \cdot " if isinstance(formula, Times) else " + ").join(inner)


def as_mathml(formula: Formula) -> str:
    """Return a formula as presentation MathML, without the `<math>` around it."""
    if isinstance(formula, Number):
        return f"<mn>{formula}</mn>"
    if isinstance(formula, Name):
        text = f"<mi>{escape(formula.text)}</mi>"
        return f"<msub>{text}<mtext>{escape(formula.sub)}</mtext></msub>" if formula.sub else text
    inner = [as_mathml(part) for part in _parts(formula)]
    if isinstance(formula, Over):
        return f"<mfrac><mrow>{inner[0]}</mrow><mrow>{inner[1]}</mrow></mfrac>"
    if isinstance(formula, Root):
        return f"<msqrt>{inner[0]}</msqrt>"
    if isinstance(formula, Square):
        return f"<msup><mrow>{inner[0]}</mrow><mn>2</mn></msup>"
    return f"<mo>{'·' if isinstance(formula, Times) else '+'}</mo>".join(inner)


def _parts(formula: Times | Plus | Over | Root | Square) -> tuple[Formula, ...]:
    if isinstance(formula, Times):
        return formula.factors
    if isinstance(formula, Plus):
        return formula.terms
    if isinstance(formula, Over):
        return formula.top, formula.bottom
    return (formula.inner,)


def _tight(formula: Formula) -> str:
    """Text that keeps together beside a fraction bar or under a root."""
    text = as_text(formula)
    return text if isinstance(formula, (Number, Name, Root, Square)) else f"({text})"


def _braced(formula: Formula, latex: str) -> str:
    return latex if isinstance(formula, (Number, Name)) else rf"\left({latex}\right)"
