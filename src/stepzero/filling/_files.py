"""Files that appear whole or not at all: written beside under a hidden name, made durable, then moved to their place."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stepzero.errors import FileError


@contextmanager
def whole_file(target: Path, size: int = 0) -> Iterator[BinaryIO]:
    """Yield a file to write; it takes the name `target` when the block ends well, and vanishes when it does not.

    A process that is killed leaves only the hidden part, which the next run overwrites. `size` bytes are taken from the disk at
    once, where it offers that: one that is too full says so before anything is computed, and writes in one piece.

    Raises:
        FileError: if another process writes the same file, or the disk does not take it.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        with open(part, "r+b", opener=_opened) as file:
            _lock(file, target)
            try:
                file.truncate(0)
                _reserve(file, size)
                yield file
                file.flush()
                os.fsync(file.fileno())
                part.replace(target)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        sync_folder(target.parent)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{target} cannot be written: {error.strerror or error}. Nothing of it was left.") from error


def write_whole(target: Path, text: str) -> None:
    """Write a small text file as a whole."""
    with whole_file(target) as file:
        file.write(text.encode())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system offers that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _opened(path: str, flags: int) -> int:
    """Open a file as it is, or a new one: nothing is cut off before the lock is held."""
    return os.open(path, flags | os.O_CREAT, 0o666)


def _reserve(file: BinaryIO, size: int) -> None:
    if not size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):  # a file system that knows no such call
            raise


def _lock(file: BinaryIO, target: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such lock on this system: two writers of one file are the user's to avoid
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileError(f"{target} is being written by another process. Wait for it, or give another path.") from None
