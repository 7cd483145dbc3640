"""`stepzero diff`: which tensors of two inits differ, and whether in law, seed or bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from stepzero import reporting

from ._check import FAILED
from ._options import Json
from ._output import show_json

EXAMPLES = (
    "stepzero diff vgg16.safetensors other.safetensors",
    "stepzero diff vgg16.stepzero.json folder-of-shards",
    "stepzero diff monday.plan.json today.plan.json",
    "stepzero diff timm:vit_base_patch16_224 hf:vit/config.json --map-file examples/vit_timm_to_hf.map",
)

Side = Annotated[
    str,
    typer.Argument(
        help="A plan (JSON), a manifest (*.stepzero.json), a safetensors file, a folder of shards, or a model such as timm:NAME.",
        show_default=False,
    ),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        "-m",
        metavar="OLD=NEW",
        help="What the first side calls OLD, the second calls NEW: a shell pattern whose * is carried over, re:REGEX=NEW, or "
        "OLD[0:64]=NEW for rows of a packed tensor. Repeatable, applied in order.",
    ),
]
MapFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A file with one OLD=NEW a line; # starts a comment. Applied before --map."),
]


def diff(first: Side, second: Side, *, renames: Map = None, map_file: MapFile = None, as_json: Json = False) -> None:
    """Compare two plans, manifests, checkpoints or models, tensor by tensor.

    Exit code 1 if anything differs. A manifest beside a checkpoint tells laws and seeds, if its hashes fit the bytes. A model is
    compared by its author's own init, as its constructor tells it; no weight is allocated.
    """
    from stepzero import filling

    names = [*_lines(map_file), *(renames or [])]
    found = filling.diff(_read(first), _read(second), names=names)
    if as_json:
        show_json(found.to_dict())
    else:
        typer.echo(str(found))
    if found:
        raise typer.Exit(FAILED)


def _lines(path: Path | None) -> list[str]:
    """Return the rules of a file."""
    lines = [] if path is None else [line.partition("#")[0].strip() for line in reporting.read_text(path).splitlines()]
    return [line for line in lines if line]


def _read(text: str) -> Any:
    """Return a model, a plan, or the path itself for what the comparison reads on its own."""
    from stepzero import planning

    path = Path(text)
    if ":" in text and not path.exists():
        from ._models import Source

        return Source.of(text, None, evaluate=False).hollow()
    if path.suffix == ".json" and _format(path) == planning.FORMAT:
        return planning.Plan.load(path)
    return path


def _format(path: Path) -> str:
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""  # whoever reads the path says what is wrong with it
    return str(head.get("format", "")) if isinstance(head, dict) else ""
