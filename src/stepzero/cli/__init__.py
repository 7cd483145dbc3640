"""The door: arguments in; tables, files and exit codes out."""

from __future__ import annotations

import sys
from collections.abc import Sequence

MISSING = "stepzero: the command line needs two more packages. Install them with: pip install 'stepzero[cli]'\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 fine, 1 a check failed, 2 misuse, 130 interrupted."""
    try:
        from ._app import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.stderr.write(MISSING)
        return 2
    return run(sys.argv[1:] if argv is None else argv)
