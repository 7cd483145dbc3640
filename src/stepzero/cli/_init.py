"""`stepzero init`: plan a model, draw it into a file, and prove the file by one run of the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepzero import reporting

from ._check import FAILED, run_check
from ._options import (
    Arg,
    Eval,
    Everything,
    Force,
    Goal,
    Input,
    Json,
    Model,
    OnUnknown,
    Override,
    PlanFile,
    Residual,
    Seed,
    plan_options,
)
from ._output import refuse_to_replace, show, show_json
from ._progress import working

if TYPE_CHECKING:
    from torch import nn

    from stepzero.filling import Manifest
    from stepzero.planning import Plan

    from ._models import Source

EXAMPLES = (
    "stepzero init torchvision:vgg16 --input 1x3x224x224 --seed 0 -o vgg16.safetensors",
    "stepzero init nets.py:unet --arg width=32 --input 1x3x64x64 -o unet.safetensors",
)

Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The safetensors file to write.")]
NoCheck = Annotated[bool, typer.Option("--no-check", help="Write the file, but do not run the model.")]


def init(
    model: Model,
    inputs: Input,
    output: Output,
    *,
    arguments: Arg = None,
    seed: Seed = 0,
    goal: Goal = "forward",
    residual: Residual = "1/sqrt(depth)",
    override: Override = None,
    on_unknown: OnUnknown = "probe",
    plan_file: PlanFile = None,
    evaluate: Eval = False,
    no_check: NoCheck = False,
    force: Force = False,
    everything: Everything = False,
    as_json: Json = False,
) -> None:
    """Initialise a model: plan every parameter, draw it into a file, load the file, and check one run of the model.

    The plan needs no weights in memory. The file holds every parameter and buffer; what the plan keeps has the values that the
    model's own constructor gave it.
    """
    from stepzero import planning

    from ._models import Source, load_weights

    options = plan_options(goal, residual, override, on_unknown)
    refuse_to_replace(output, force)
    source = Source.of(model, arguments, evaluate)
    module = source.hollow()
    plan = source.plan(module, inputs, options) if plan_file is None else planning.Plan.load(plan_file)
    if not as_json:
        show(reporting.plan_document(plan, everything=everything))
    manifest = _write(plan, source, module, output, seed, force)
    report: dict[str, Any] = {"plan": plan.to_dict(), "file": _facts(output, manifest)}
    if not as_json:
        typer.echo(f"\n{_told(output, manifest)}\n")
    ok = True
    if not no_check:
        load_weights(module, output)
        found = run_check(module, inputs, plan, seed=seed, on_unknown=on_unknown)
        ok, report["check"] = found.ok, found.to_dict()
        if not as_json:
            show(reporting.check_document(found))
    if as_json:
        show_json(report)
    if not ok:
        raise typer.Exit(FAILED)


def _write(plan: Plan, source: Source, module: nn.Module, output: Path, seed: int, force: bool) -> Manifest:
    """Draw the plan into the file, together with the buffers and, as the constructor draws it, what the plan keeps."""
    from stepzero import filling

    from ._models import persistent_buffers

    names = [name for name, entry in plan.items() if entry.law.kind == "kept"]
    own = dict(source.real(seed).named_parameters()) if names else {}
    kept = {name: own[name] for name in names}
    drawn = {name: entry for name, entry in plan.items() if name not in kept}
    with working(f"writing {output}") as step:
        return filling.save(
            drawn, output, seed, overwrite=force, buffers={**persistent_buffers(module), **kept}, progress=step
        )


def _facts(output: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "path": str(output),
        "bytes": output.stat().st_size,
        "tensors": len(manifest.tensors),
        "seed": manifest.seed,
        "stream": manifest.stream,
        "digest": manifest.digest,
    }


def _told(output: Path, manifest: Manifest) -> str:
    size = f"{output.stat().st_size / 1e6:.1f} MB"
    return (
        f"Wrote {output}: {len(manifest.tensors)} tensors, {size}, seed {manifest.seed}, digest {manifest.digest[:16]}."
    )
