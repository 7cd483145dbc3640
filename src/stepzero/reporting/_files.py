"""Read and write text files: a write happens as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from stepzero.errors import FileError


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file.

    Raises:
        FileError: if it cannot be read, or is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FileError(f"{path} is not a text file.") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}.") from error


def write_text(path: str | os.PathLike[str], text: str, *, overwrite: bool = False) -> Path:
    """Write a file beside its place, make it durable, and move it there in one step.

    Args:
        path: Where it shall stand; a link is followed.
        text: What it shall hold.
        overwrite: Whether a file that stands there may be replaced.

    Raises:
        FileError: if a file is there and must stay, or the folder cannot be written; nothing is left behind.
    """
    place = Path(path)
    target = place.resolve()
    if target.exists() and not overwrite:
        raise FileError(f"{place} is there already. Pass overwrite=True, or give another path.")
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with beside.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except OSError as error:
        raise FileError(f"{place} cannot be written: {error.strerror}.") from error
    finally:
        beside.unlink(missing_ok=True)
    return place
