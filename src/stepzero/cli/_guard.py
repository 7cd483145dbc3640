"""What every command does with an error: one paragraph on stderr, an exit code, nothing half-written."""

from __future__ import annotations

import os
import sys
import textwrap
import traceback
from collections.abc import Callable
from functools import wraps
from types import MappingProxyType
from typing import ParamSpec, TypeVar

import typer

from stepzero.errors import StepZeroError

P = ParamSpec("P")
R = TypeVar("R")

MISUSE, INTERRUPTED, CLOSED = 2, 130, 141  # the last two as shells count SIGINT and SIGPIPE
TRACE = "STEPZERO_TRACEBACK"
EXTRAS = MappingProxyType({"torch": "torch", "safetensors": "torch", "rich": "cli"})


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Return the command with its errors told in one paragraph; the exit code says what kind they were."""

    @wraps(command)
    def safely(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            _tell("interrupted; no file was left half-written.")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # the reader has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(CLOSED) from None
        except StepZeroError as error:
            _tell(str(error))
            _trace()
        except ModuleNotFoundError as error:
            extra = EXTRAS.get(error.name or "")
            hint = f" Install it with: pip install 'stepzero[{extra}]'" if extra else ""
            _tell(f"this needs {error.name}, which is not installed.{hint}")
            _trace()
        except Exception as error:
            _tell(
                f"{type(error).__name__}: {error} This is not an error that stepzero foresaw; {TRACE}=1 shows its place."
            )
            _trace()
        raise typer.Exit(MISUSE)

    return safely


def _tell(message: str) -> None:
    paragraph = " ".join(f"stepzero: {message}".split())
    width = os.get_terminal_size(2).columns if sys.stderr.isatty() else 0
    typer.echo(textwrap.fill(paragraph, width, break_on_hyphens=False) if width > 20 else paragraph, err=True)


def _trace() -> None:
    if os.environ.get(TRACE):
        sys.stderr.write(traceback.format_exc())
