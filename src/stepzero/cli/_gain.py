"""`stepzero gain`: what an activation does to a signal, in numbers. No framework is loaded."""

from __future__ import annotations

from typing import Annotated

import typer

from stepzero import reporting, theory

from ._options import Json
from ._output import show, show_json

EXAMPLES = ("stepzero gain gelu", "stepzero gain leaky_relu 0.2 --json")
MEANINGS = {
    "gain": "1/√E[φ²]: holds the forward second moment",
    "gradient_gain": "1/√E[φ'²]: holds the backward one",
    "mean": "E[φ(z)], z ~ N(0, 1)",
    "second_moment": "E[φ(z)²]",
    "gradient_second_moment": "E[φ'(z)²]",
    "chi": "factor on gradients per layer, forward held",
}


def gain(
    nonlinearity: Annotated[
        str, typer.Argument(help="Name in torch's, Keras's or JAX's spelling.", show_default=False)
    ],
    param: Annotated[list[float] | None, typer.Argument(help="Its settings, such as a negative slope.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show the gain of an activation, and what it means for depth."""
    measured = theory.activation(nonlinearity, tuple(param) if param else None)
    if as_json:
        show_json(measured.to_dict())
        return
    columns = (
        reporting.Column("Quantity", "left"),
        reporting.Column("Value"),
        reporting.Column("Meaning", "left"),
    )
    rows = tuple((name, f"{getattr(measured, name):.8g}", meaning) for name, meaning in MEANINGS.items())
    show(reporting.Document(measured.name, (reporting.Table(columns, rows), f"Stability: {measured.stability}")))
