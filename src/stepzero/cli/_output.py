"""Where results go: tables to a terminal, whole lines to a pipe, JSON where it is asked for."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import typer

from stepzero import reporting
from stepzero.errors import FileError


def show(document: reporting.Document) -> None:
    """Print a document: as wide as the terminal, or without any limit into a pipe."""
    width = max(40, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None
    typer.echo(reporting.text(document, width))


def show_json(data: Any) -> None:
    """Print plain data as strict JSON."""
    typer.echo(reporting.dumps(data), nl=False)


def remark(line: str) -> None:
    """Tell a person at a terminal what was done; a pipe gets results only."""
    if sys.stderr.isatty():
        typer.echo(line, err=True)


def refuse_to_replace(output: Path | None, overwrite: bool) -> None:
    """Say before any work is done that the output file could not be written.

    Raises:
        FileError: if it is there already and `overwrite` is False, or its folder is missing.
    """
    if output is None:
        return
    if output.exists() and not overwrite:
        raise FileError(f"{output} is there already. Pass --overwrite to replace it, or give another name.")
    if not output.resolve().parent.is_dir():
        raise FileError(f"{output.parent} is not a folder. Make it first.")
