"""All commands under one name."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import typer

import stepzero

from . import _check, _diff, _explain, _fans, _gain, _init, _lint, _plan
from ._guard import INTERRUPTED, guarded

ABOUT = """Set and prove a neural network's state at step zero.

MODEL is path/to/file.py:factory, package.module:factory, torchvision:NAME, timm:NAME or hf:path/to/config.json; \
a factory is a function or class that returns a torch.nn.Module.

Exit codes: 0 fine, 1 a check or lint failed or two sides differ, 2 misuse.
"""

app = typer.Typer(
    name="stepzero",
    help=ABOUT,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def unwrapped(command: Callable[..., None]) -> str:
    """Return a docstring with one line for each paragraph, for the terminal to wrap."""
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(command) or "").split("\n\n"))


COMMANDS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "init": (_init.init, _init.EXAMPLES),
    "plan": (_plan.plan, _plan.EXAMPLES),
    "check": (_check.check, _check.EXAMPLES),
    "lint": (_lint.lint, _lint.EXAMPLES),
    "gain": (_gain.gain, _gain.EXAMPLES),
    "fans": (_fans.fans, _fans.EXAMPLES),
    "explain": (_explain.explain, _explain.EXAMPLES),
    "diff": (_diff.diff, _diff.EXAMPLES),
}
for name, (command, examples) in COMMANDS.items():
    app.command(name, help=unwrapped(command), epilog="\n\n".join(("[bold]Examples[/]", *examples)))(guarded(command))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"stepzero {stepzero.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # a replaced stream may not know how
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without ² still gets its table
    try:
        app(args=list(argv), prog_name="stepzero")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:  # between two commands' guards: while arguments are read
        return INTERRUPTED
    return 0
