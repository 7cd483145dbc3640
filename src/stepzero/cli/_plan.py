"""`stepzero plan`: a law for every parameter, without weights in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from stepzero import reporting

from ._options import (
    Arg,
    Eval,
    Everything,
    Goal,
    Json,
    MaybeInput,
    Model,
    OnUnknown,
    Override,
    Overwrite,
    Policies,
    Residual,
    Seed,
    output_option,
    plan_options,
    suffix_of,
)
from ._output import refuse_to_replace, remark, show, show_json

if TYPE_CHECKING:
    from stepzero.planning import Plan

EXAMPLES = (
    "stepzero plan torchvision:resnet50 --input 1x3x224x224",
    "stepzero plan nets.py:unet --arg width=32 --input 1x3x64x64 -o unet.json",
    "stepzero plan timm:convnext_tiny --input 1x3x224x224 -o convnext.md",
    "stepzero plan timm:convnext_tiny --goal own",
)

FORMATS: MappingProxyType[str, Callable[[Plan], str]] = MappingProxyType(
    {
        ".json": lambda made: reporting.dumps(made.to_dict()),
        ".md": lambda made: made.to_markdown(),
        ".html": lambda made: reporting.page(made.to_html(), f"Plan for {made.model}"),
    }
)

Output = Annotated[
    Path | None,
    output_option("Write it too: .json (to load again), .md or .html by the name's end."),
]


def plan(
    model: Model,
    inputs: MaybeInput = None,
    *,
    arguments: Arg = None,
    goal: Goal = "forward",
    residual: Residual = "1/sqrt(depth)",
    policy: Policies = None,
    override: Override = None,
    on_unknown: OnUnknown = "probe",
    seed: Seed = 0,
    evaluate: Eval = False,
    output: Output = None,
    overwrite: Overwrite = False,
    everything: Everything = False,
    as_json: Json = False,
) -> None:
    """Plan a law for every parameter of a model, and show why."""
    from ._models import Source

    if not inputs and goal != "own":
        raise typer.BadParameter(
            "missing: give the shape of each input. Only --goal own can do without.", param_hint="--input"
        )
    options = plan_options(goal, residual, override, on_unknown, policy)
    as_text = FORMATS[suffix_of(output, FORMATS, ".json")]
    refuse_to_replace(output, overwrite)
    source = Source.of(model, arguments, evaluate)
    made = source.plan(source.hollow(), inputs, options, seed)
    if output is not None:
        reporting.write_text(output, as_text(made), overwrite=overwrite)
        remark(f"wrote {output}")
    if as_json:
        show_json(made.to_dict())
    else:
        show(reporting.plan_document(made, everything=everything))
