"""The arguments that commands share, each in one place with its help."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Annotated, Any

import typer

Model = Annotated[
    str,
    typer.Argument(
        help="path/to/file.py:factory, package.module:factory, torchvision:NAME, timm:NAME or hf:path/to/config.json.",
        show_default=False,
    ),
]
Input = Annotated[
    list[str],
    typer.Option(
        "--input",
        "-i",
        metavar="[NAME=]SIZES[:TYPE]",
        help="Shape of an input, such as 1x3x224x224 or ids=1x128:int64. Repeat it for more inputs.",
    ),
]
Arg = Annotated[
    list[str],
    typer.Option("--arg", "-a", metavar="KEY=VALUE", help="Argument for the factory, such as width=64. Repeatable."),
]
Seed = Annotated[int, typer.Option(help="Seed of the values, 0 … 2^64 - 1.")]
Goal = Annotated[str, typer.Option(help="What to hold constant: forward, backward or balanced.")]
Eval = Annotated[bool, typer.Option("--eval", help="Read the model in evaluation mode; without it, in training mode.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace the output file if it is there already.")]
Everything = Annotated[bool, typer.Option("--all", help="One row for every parameter, and every reason.")]
PlanFile = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="A plan that `stepzero plan -o` wrote, instead of a new one."),
]

SIZES = re.compile(r"\d+(?:[x×,]\d+)*")


def key_values(pairs: list[str]) -> dict[str, Any]:
    """Return the factory's arguments: values are Python literals, anything else is text.

    Raises:
        typer.BadParameter: if one is not of the form key=value, or a key comes twice.

    Examples:
        >>> key_values(["width=64", "act=gelu", "stages=(2, 2)"])
        {'width': 64, 'act': 'gelu', 'stages': (2, 2)}
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise typer.BadParameter(f"{pair!r} is not of the form key=value.", param_hint="--arg")
        if key in found:
            raise typer.BadParameter(f"{key!r} is given twice.", param_hint="--arg")
        found[key] = _literal(value)
    return found


def sizes(text: str, where: str) -> tuple[int, ...]:
    """Return the sizes in a text such as 32x1x5x5.

    Raises:
        typer.BadParameter: if it is something else.

    Examples:
        >>> sizes("32x1x5x5", "SHAPE")
        (32, 1, 5, 5)
    """
    if not SIZES.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is not of the form 32x1x5x5.", param_hint=where)
    return tuple(int(size) for size in re.split("[x×,]", text))


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
