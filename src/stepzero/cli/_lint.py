"""`stepzero lint`: what a model's own init gets wrong, without its weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepzero import reporting

from ._check import FAILED, Weights
from ._options import Arg, Eval, Json, MaybeModel, SignalInput, everything_option
from ._output import show, show_json
from ._progress import working

if TYPE_CHECKING:
    from torch import nn

    from stepzero.checking import Findings, Lint

EXAMPLES = (
    "stepzero lint torchvision:mobilenet_v2",
    "stepzero lint nets.py:unet --input 1x3x64x64 --ignore random-bias --ignore 'copies:teacher.*'",
    "stepzero lint nets.py:unet --weights unet.safetensors --rule not-finite",
    "stepzero lint --list",
)

Rules = Annotated[list[str] | None, typer.Option("--rule", metavar="RULE", help="Ask these rules only. Repeatable.")]
Ignore = Annotated[
    list[str] | None,
    typer.Option(metavar="RULE[:PLACE]", help="Leave out a rule, or places of it (shell patterns). Repeatable."),
]
Everything = Annotated[bool, everything_option("Tell every place of every rule.")]
Listing = Annotated[bool, typer.Option("--list", help="Show the rules and their sources, and do nothing else.")]


def lint(
    model: MaybeModel = None,
    *,
    inputs: SignalInput = None,
    arguments: Arg = None,
    rules: Rules = None,
    ignore: Ignore = None,
    weights: Weights = None,
    evaluate: Eval = False,
    everything: Everything = False,
    listing: Listing = False,
    as_json: Json = False,
) -> None:
    """Find what a model's init gets wrong, without its weights in memory.

    The constructor is recorded: each parameter is judged by the law that it is drawn from. With --weights, the values of a
    file are judged instead. Exit code 1 if there is an error; warnings and notes leave it at 0.
    """
    from stepzero import checking

    asked = checking.select(rules) if rules else dict(checking.LINTS)
    if listing:
        show(_rules(asked))
        return
    if model is None:
        raise typer.BadParameter("give a model, or --list.", param_hint="MODEL")
    module = _module(model, arguments, weights, evaluate)
    with working(f"linting {model}"):
        found = checking.lint(module, list(inputs) if inputs else None, rules=asked, ignore=ignore or ())
    _show(found, everything=everything, as_json=as_json)
    if not found.ok:
        raise typer.Exit(FAILED)


def _module(model: str, arguments: list[str] | None, weights: Path | None, evaluate: bool) -> nn.Module:
    """Return the model with its init recorded; with the values of a file, if there is one."""
    from stepzero import network

    from ._models import Source, load_weights

    source = Source.of(model, arguments, evaluate)
    if weights is not None:
        module = source.hollow()
        load_weights(module, weights)
        return module
    with working(f"reading {model}"):
        return network.load_model(source.model, source.arguments, record=True).train(not evaluate)


def _show(found: Findings, *, everything: bool, as_json: bool) -> None:
    if as_json:
        show_json(found.to_dict())
    else:
        show(reporting.findings_document(found, everything=everything))


def _rules(asked: dict[str, Lint]) -> reporting.Document:
    """Return the rules as a table."""
    column = partial(reporting.Column, align="left")
    columns = (column("Rule"), column("Looks for"), column("Inputs"), column("Source", overflow=True))
    rows = tuple((n, rule.about, "needed" if rule.needs_inputs else "", rule.source) for n, rule in asked.items())
    return reporting.Document.of("Lint rules", (reporting.Table(columns, rows),))
