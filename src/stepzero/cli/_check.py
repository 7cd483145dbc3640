"""`stepzero check`: hold what was predicted against one real run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepzero import reporting

from ._options import Arg, Eval, Input, Json, Model, PlanFile, Seed
from ._output import show, show_json
from ._progress import working

if TYPE_CHECKING:
    from torch import nn

    from stepzero.checking import Check
    from stepzero.planning import Plan

EXAMPLES = (
    "stepzero check torchvision:vgg16 --input 4x3x64x64",
    "stepzero check nets.py:unet --input 1x3x64x64 --plan unet.json --weights unet.safetensors",
)
FAILED = 1

Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A safetensors file to load into the model, instead of what it draws itself."),
]
Draws = Annotated[int, typer.Option(min=1, help="Draw the plan this often and average; single draws scatter.")]


def check(
    model: Model,
    inputs: Input,
    *,
    arguments: Arg = None,
    plan_file: PlanFile = None,
    weights: Weights = None,
    seed: Seed = 0,
    draws: Draws = 1,
    evaluate: Eval = False,
    as_json: Json = False,
) -> None:
    """Run a model once, and hold the second moment of every weight layer against its prediction.

    Without --plan, the model's own values (or those of --weights) are held against what their second moments predict. With
    --plan and --weights, the file is held against the plan. With --plan alone, the plan is drawn first, with --seed.
    """
    from stepzero import planning

    from ._models import Source, load_weights

    plan = None if plan_file is None else planning.Plan.load(plan_file)
    source = Source.of(model, arguments, evaluate)
    if weights is not None:
        module = source.hollow()
        load_weights(module, weights)
    else:
        module = source.real(seed)
        if plan is not None:
            plan.apply_(module, seed)
    found = run_check(module, inputs, plan, seed=seed, draws=draws)
    if as_json:
        show_json(found.to_dict())
    else:
        show(reporting.check_document(found))
    if not found.ok:
        raise typer.Exit(FAILED)


def run_check(module: nn.Module, inputs: list[str], plan: Plan | None, **options: Any) -> Check:
    """Return the check of a model with N(0, 1) inputs."""
    from stepzero import checking

    with working("checking"):
        return checking.check(module, inputs, plan, **options)
