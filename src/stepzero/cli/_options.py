"""The arguments that commands share, each in one place with its help."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from stepzero import laws


def input_option(more: str) -> Any:
    """Return the option that takes inputs by shape; `more` says what they are for, or when they may be left out."""
    help_ = f"Shape of an input, such as 1x3x224x224 or ids=1x128:int64. Repeat it for more inputs.{more}"
    return typer.Option("--input", "-i", metavar="[NAME=]SIZES[:TYPE]", help=help_)


def output_option(what: str) -> Any:
    """Return the option that names the file to write; `what` says which kinds there are."""
    return typer.Option("--output", "-o", metavar="FILE", help=what)


def everything_option(what: str) -> Any:
    """Return the option that shows rows which a summary leaves out; `what` says which."""
    return typer.Option("--all", help=what)


Model = Annotated[
    str,
    typer.Argument(
        help="path/to/file.py:factory, package.module:factory, torchvision:NAME, timm:NAME or hf:path/to/config.json.",
        show_default=False,
    ),
]
MaybeModel = Annotated[str | None, Model.__metadata__[0]]
Input = Annotated[list[str], input_option("")]
MaybeInput = Annotated[list[str] | None, input_option(" Only --goal own can do without: it predicts nothing then.")]
SignalInput = Annotated[
    list[str] | None, input_option(" With them the signal is predicted, and the rules about it speak.")
]
Arg = Annotated[
    list[str] | None,
    typer.Option("--arg", "-a", metavar="KEY=VALUE", help="Argument for the factory, such as width=64. Repeatable."),
]
Seed = Annotated[
    int, typer.Option(help="Seed of the values, of drawn inputs and of what the constructor draws, 0 … 2^64 - 1.")
]
Goal = Annotated[
    str,
    typer.Option(
        help="What to hold constant: forward (signals), backward (gradients), balanced (both); own: the laws of the model's author."
    ),
]
Residual = Annotated[
    str, typer.Option(help="What each branch adds to a residual stream: 1/sqrt(depth), unit, zero-last, fixup …")
]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="KIND:CHOICE[=NUMBER]",
        help="What a kind of parameter gets beside the goal, such as head:zero, embedding:normal=0.02, adaln:zero or width:mup=256. "
        "Repeatable, one of each kind; a wrong name lists them all.",
    ),
]
OnUnknown = Annotated[
    str, typer.Option(help="At an op without a rule: probe it, raise an error, or take it as identity.")
]
Override = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN=RULE",
        help="A recipe, or a law with its settings, for parameters whose names match, such as 'head.*=xavier_uniform' or "
        "'*.bias=normal:std=0.02'. Repeatable; the first match wins.",
    ),
]
Eval = Annotated[bool, typer.Option("--eval", help="Read the model in evaluation mode; without it, in training mode.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", "--force", "-f", help="Replace the output file if it is there already.")
]
Everything = Annotated[bool, everything_option("One row for every parameter, and every reason.")]
PlanFile = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="A plan that `stepzero plan -o` wrote."),
]

SIZES = re.compile(r"\d+(?:[x×,]\d+)*")


def key_values(pairs: list[str] | None) -> dict[str, Any]:
    """Return the factory's arguments: values are Python literals, anything else is text.

    Raises:
        typer.BadParameter: if one is not of the form key=value, or a key comes twice.

    Examples:
        >>> key_values(["width=64", "act=gelu", "stages=(2, 2)"])
        {'width': 64, 'act': 'gelu', 'stages': (2, 2)}
    """
    found: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise typer.BadParameter(f"{pair!r} is not of the form key=value.", param_hint="--arg")
        if key in found:
            raise typer.BadParameter(f"{key!r} is given twice.", param_hint="--arg")
        found[key] = _literal(value)
    return found


def overrides(pairs: list[str] | None) -> list[tuple[str, laws.Law | laws.Recipe]]:
    """Return patterns of parameter names with their laws or recipes, in the order given.

    Raises:
        typer.BadParameter: if one is not of the form pattern=recipe or pattern=law:setting=number.
        LawError, RecipeError: if the law or the recipe does not exist.

    Examples:
        >>> overrides(["head.*=normal:std=0.02", "*.bias=constant:value=0"])
        [('head.*', Normal(std=0.02)), ('*.bias', Constant(0))]
    """
    found = []
    for pair in pairs or ():
        pattern, equals, rule = pair.partition("=")
        if not (pattern and equals and rule):
            raise typer.BadParameter(f"{pair!r} is not of the form pattern=rule.", param_hint="--override")
        found.append((pattern, _rule(rule)))
    return found


def plan_options(
    goal: str, residual: str, override: list[str] | None, on_unknown: str, policies: list[str] | None
) -> dict[str, Any]:
    """Return the options of `stepzero.plan` that the command line gave."""
    given = {"goal": goal, "residual": residual, "policies": policies, "on_unknown": on_unknown}
    return given | {"overrides": overrides(override)}


def suffix_of(output: Path | None, formats: Collection[str], default: str) -> str:
    """Return which format the name of an output file asks for.

    Raises:
        typer.BadParameter: if it is none of those.
    """
    if output is None:
        return default
    if output.suffix not in formats:
        raise typer.BadParameter(f"{output}: end the name with one of {', '.join(formats)}.", param_hint="--output")
    return output.suffix


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


def _rule(text: str) -> laws.Law | laws.Recipe:
    kind, colon, settings = text.partition(":")
    if not colon and kind not in laws.LAWS:
        return laws.recipe(kind)
    return laws.from_dict({"law": kind, **key_values(settings.split(",") if settings else [])})


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
