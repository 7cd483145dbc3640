"""`stepzero diff`: which tensors of two inits differ, and whether in law, seed or bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ._check import FAILED
from ._options import Json
from ._output import show_json

EXAMPLES = (
    "stepzero diff vgg16.safetensors other.safetensors",
    "stepzero diff vgg16.stepzero.json folder-of-shards",
    "stepzero diff monday.plan.json today.plan.json",
)

Side = Annotated[
    Path,
    typer.Argument(
        help="A plan (JSON), a manifest (*.stepzero.json), a safetensors file, or a folder of shards.",
        show_default=False,
    ),
]


def diff(first: Side, second: Side, *, as_json: Json = False) -> None:
    """Compare two plans, manifests or checkpoints, tensor by tensor.

    Exit code 1 if anything differs. A manifest beside a checkpoint tells laws and seeds, if its hashes fit the bytes.
    """
    from stepzero import filling

    found = filling.diff(_read(first), _read(second))
    if as_json:
        show_json(found.to_dict())
    else:
        typer.echo(str(found))
    if found:
        raise typer.Exit(FAILED)


def _read(path: Path) -> Any:
    """Return a plan, or the path itself for what the comparison reads on its own."""
    from stepzero import planning

    if path.suffix == ".json" and _format(path) == planning.FORMAT:
        return planning.Plan.load(path)
    return path


def _format(path: Path) -> str:
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""  # whoever reads the path says what is wrong with it
    return str(head.get("format", "")) if isinstance(head, dict) else ""
