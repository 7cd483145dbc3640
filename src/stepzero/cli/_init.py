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
    Goal,
    Input,
    Json,
    Model,
    OnUnknown,
    Override,
    Overwrite,
    PlanFile,
    Policies,
    Residual,
    Seed,
    output_option,
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
    "stepzero init timm:resnet50 --input 2x3x64x64 -o resnet50 --dtype bfloat16 --max-shard-size 20MB",
)

Output = Annotated[
    Path,
    output_option("The safetensors file to write; with --max-shard-size, the folder."),
]
Dtype = Annotated[
    str | None,
    typer.Option(metavar="TYPE", help="Number format of the file, such as bfloat16; else each tensor's own."),
]
ShardSize = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Write shards of at most this size, such as 5GB. Call again to resume."),
]
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
    policy: Policies = None,
    override: Override = None,
    on_unknown: OnUnknown = "probe",
    plan_file: PlanFile = None,
    dtype: Dtype = None,
    max_shard_size: ShardSize = None,
    evaluate: Eval = False,
    no_check: NoCheck = False,
    overwrite: Overwrite = False,
    everything: Everything = False,
    as_json: Json = False,
) -> None:
    """Initialise a model: plan every parameter, draw it into a file, load the file, and check one run of the model.

    The plan needs no weights in memory. The file holds every parameter and buffer; what the plan keeps has the values that the
    model's own constructor gave it.
    """
    from stepzero import planning

    from ._models import Source, load_weights

    options = plan_options(goal, residual, override, on_unknown, policy)
    if max_shard_size is None:  # a folder of shards that an interrupt left may be resumed
        refuse_to_replace(output, overwrite)
    source = Source.of(model, arguments, evaluate)
    module = source.hollow()
    plan = source.plan(module, inputs, options, seed) if plan_file is None else planning.Plan.load(plan_file)
    if not as_json:
        show(reporting.plan_document(plan, everything=everything))
    files = {"dtype": dtype, "max_shard_size": max_shard_size, "overwrite": overwrite}
    manifest = _write(plan, source, module, output, seed, files)
    report: dict[str, Any] = {"plan": plan.to_dict(), "file": _facts(output, manifest)}
    if not as_json:
        typer.echo(f"\n{_told(report['file'])}\n")
    if not no_check:
        load_weights(module, output)
        found = run_check(module, inputs, plan, seed=seed, on_unknown=on_unknown)
        report["check"] = found.to_dict()
        if not as_json:
            show(reporting.check_document(found))
    if as_json:
        show_json(report)
    if not report.get("check", {"ok": True})["ok"]:
        raise typer.Exit(FAILED)


def _write(plan: Plan, source: Source, module: nn.Module, output: Path, seed: int, files: dict[str, Any]) -> Manifest:
    """Draw the plan into the file, together with the buffers and, as the constructor draws it, what the plan keeps."""
    from stepzero import filling

    from ._models import kept_names, persistent_buffers

    source.fill(module, kept_names(plan), seed)
    kept = {name: module.get_parameter(name) for name in kept_names(plan)}
    drawn = {name: entry for name, entry in plan.items() if name not in kept}
    copied = {**persistent_buffers(module), **filling.drawn_vectors(module, drawn, kept, seed), **kept}
    rows = {name: row for name, row in filling.padding_rows(module, drawn).items() if name in drawn}
    with working(f"writing {output}") as step:
        return filling.save(drawn, output, seed, buffers=copied, zero_rows=rows, progress=step, **files)


def _facts(output: Path, manifest: Manifest) -> dict[str, Any]:
    files = sorted(output.glob("*.safetensors")) if output.is_dir() else [output]
    return {
        "path": str(output),
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        "tensors": len(manifest.tensors),
        "seed": manifest.seed,
        "stream": manifest.stream,
        "digest": manifest.digest,
    }


def _told(facts: dict[str, Any]) -> str:
    shards = f" in {facts['files']} files" if facts["files"] > 1 else ""
    size = f"{facts['bytes'] / 1e6:.1f} MB"
    return f"Wrote {facts['path']}: {facts['tensors']} tensors{shards}, {size}, seed {facts['seed']}, digest {facts['digest'][:16]}."
