"""What one call of `save` is to write, what an earlier and interrupted call has finished of it, and whether it may start."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stepzero import streams
from stepzero.errors import FileError

from ._container import Spec, read_header
from ._manifest import SavedTensor
from ._sources import Source
from ._volumes import Volume

Hashes = Mapping[str, str]  # tensor → SHA-256 of its bytes


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be written, and where."""

    folder: Path
    final: Path  # the manifest: written last, so what it stands beside is whole
    volumes: tuple[Volume, ...]
    sources: Mapping[str, Source]
    seed: int
    threads: int | None

    @property
    def journal(self) -> Path:
        """Where finished files are noted until the manifest stands."""
        return self.final.with_name(f".{self.final.name}.journal")

    @property
    def total(self) -> int:
        """Bytes of all tensors."""
        return sum(volume.nbytes for volume in self.volumes)

    def identity(self) -> str:
        """Return a hash of all that decides the bytes of the files."""
        facts = [[volume.name, [self.sources[spec.name].facts() for spec in volume.specs]] for volume in self.volumes]
        return hashlib.sha256(json.dumps([streams.SPEC, self.seed, facts]).encode()).hexdigest()

    def tensor(self, spec: Spec, volume: Volume, sha256: str) -> SavedTensor:
        """Return the line of the manifest for a tensor."""
        return SavedTensor(spec.name, spec.shape, spec.dtype, self.sources[spec.name].law, volume.name, sha256)


def finished(task: Task) -> dict[str, Hashes] | None:
    """Return, for each file that an interrupted run of the same task finished and that still has its hashes, the hashes.

    None if no such run was here.
    """
    try:
        journal = json.loads(task.journal.read_text())
    except (OSError, ValueError):
        return None
    if task.final.exists() or journal.get("identity") != task.identity():
        return None
    files: dict[str, Hashes] = journal["files"]
    return {name: hashes for name, hashes in files.items() if _intact(task.folder / name, hashes)}


def require_target(task: Task, done: Mapping[str, Hashes] | None, overwrite: bool) -> None:
    """Check all that can be checked before a byte is written.

    Raises:
        FileError: if files stand there and must stay, or the folder or the disk does not take the new ones.
    """
    places = [task.final, *(task.folder / volume.name for volume in task.volumes if done is None)]
    if (taken := [place for place in places if place.exists()]) and not overwrite:
        raise FileError(f"{taken[0]} is there already. Pass overwrite=True, or give another path. Nothing was written.")
    nearest = next(place for place in (task.folder, *task.folder.parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise FileError(f"{nearest} is not a folder that can be written. Nothing was written.")
    needed = sum(volume.nbytes for volume in task.volumes if volume.name not in (done or ()))
    if (free := shutil.disk_usage(nearest).free) < needed:
        raise FileError(
            f"{nearest} has {free / 1e9:.2f} GB left, {needed / 1e9:.2f} GB are needed. Nothing was written."
        )


def content_hash(path: Path, begin: int, end: int) -> str:
    """Return the SHA-256 of a part of a file, read 16 MiB at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(begin)
        while begin < end and (block := file.read(min(2**24, end - begin))):
            digest.update(block)
            begin += len(block)
    return digest.hexdigest()


def _intact(path: Path, hashes: Hashes) -> bool:
    try:
        stored = read_header(path)
    except FileError:
        return False
    return stored.keys() == hashes.keys() and all(
        content_hash(path, stored[name].begin, stored[name].end) == hashes[name] for name in hashes
    )
