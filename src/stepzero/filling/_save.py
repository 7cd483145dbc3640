"""Draw a plan straight into safetensors files, a few chunks in memory at a time, whatever the size of the model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import torch

from stepzero import streams
from stepzero.errors import FileError

from ._chunks import in_order
from ._container import arranged, header
from ._files import whole_file, write_whole
from ._manifest import Manifest
from ._match import Entries
from ._sink import Sink
from ._sources import Source, sources_of
from ._task import Hashes, Task, finished, require_target
from ._volumes import INDEX, Volume, bytes_of, index, split

Progress = Callable[[int, int], None]
METADATA = {"format": "pt"}  # transformers refuses files without it
MANIFEST = "stepzero.json"  # in a folder of shards; beside a single file NAME.safetensors it is NAME.stepzero.json


def save(
    plan: Entries,
    path: str | os.PathLike[str],
    seed: int = 0,
    dtype: str | torch.dtype | None = None,
    max_shard_size: int | str | None = None,
    *,
    overwrite: bool = False,
    skip_kept: bool = False,
    buffers: Mapping[str, torch.Tensor] | None = None,
    zero_rows: Mapping[str, int] | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Manifest:
    """Write the values of a plan into one safetensors file, or into a folder of shards, and a manifest beside.

    Files appear whole or not at all. A folder of shards can be resumed: call again with the same plan and seed, and shards that are
    finished and still have their hashes are kept.

    Args:
        plan: Canonical name → entry with shape, dtype and law.
        path: The file; with `max_shard_size`, or if it is a folder, the folder.
        seed: 0 ≤ seed < 2^64.
        dtype: Number format for all real parameters; each entry's own by default.
        max_shard_size: Bytes, or text such as "5GB"; a larger tensor has a file of its own.
        overwrite: Whether files that stand there may be replaced.
        skip_kept: Leave out parameters that the plan keeps; otherwise they are an error, since nothing is known of their values.
        buffers: Further tensors to copy into the files, such as a model's buffers.
        zero_rows: Canonical name → row that stays zero, as `padding_rows(model)` lists them: a plan does not know of padding.
        progress: Called with bytes done and bytes in all.
        threads: Threads that draw; all cores by default.

    Raises:
        PlanError: if the plan keeps parameters, a number format cannot hold a law, or a file cannot hold a tensor.
        FileError: if the target exists, cannot be written, or the disk is too small; said before the first byte is written.
        SeedError: if the seed is out of range.
        LawError: if `threads` is no number of threads.
    """
    streams.checked_seed(seed)
    streams.require_threads(threads)
    found = sources_of(plan, _dtype_name(dtype), skip_kept, buffers or {}, zero_rows or {})
    limit = None if max_shard_size is None else bytes_of(max_shard_size)
    try:
        task = _task(found, _followed(Path(path)), limit, seed, threads)
        done = finished(task)
        require_target(task, done, overwrite)
    except FileError:
        raise
    except OSError as error:  # a name that is too long, a loop of links
        raise FileError(f"{path} cannot be written: {error.strerror}. Nothing was written.") from None
    return _write(task, dict(done or {}), progress or (lambda _done, _total: None))


def _followed(target: Path) -> Path:
    """Return where a link leads, whether or not anything stands there yet: a file is put in its place by its own name."""
    return target.resolve() if target.is_symlink() else target.absolute()


def _task(found: list[Source], target: Path, limit: int | None, seed: int, threads: int | None) -> Task:
    """Return which tensor goes into which file."""
    sources = {source.spec.name: source for source in found}
    specs = [source.spec for source in found]
    if limit is None and not target.is_dir():
        final = target.with_name(f"{target.name.removesuffix('.safetensors')}.stepzero.json")
        return Task(target.parent, final, (Volume(target.name, arranged(specs)),), sources, seed, threads)
    return Task(target, target / MANIFEST, split(specs, limit or 2**63), sources, seed, threads)


def _dtype_name(dtype: str | torch.dtype | None) -> str | None:
    return None if dtype is None else streams.storage(str(dtype)).name


def _write(task: Task, done: dict[str, Hashes], progress: Progress) -> Manifest:
    """Write the files that are not there yet, then the index, then the manifest."""
    new_folder = not task.folder.exists()
    task.folder.mkdir(parents=True, exist_ok=True)
    if len(task.volumes) > 1:
        for stale in (task.final, task.folder / INDEX):
            stale.unlink(missing_ok=True)  # what is being replaced must not vouch for shards half of which are new
    try:
        return _write_files(task, done, progress)
    except BaseException:
        if not done:  # nothing to resume
            task.journal.unlink(missing_ok=True)
            if new_folder:
                task.folder.rmdir()
        raise


def _write_files(task: Task, done: dict[str, Hashes], progress: Progress) -> Manifest:
    _note(task, done)
    at = 0
    for volume in task.volumes:
        if volume.name not in done:
            done[volume.name] = _write_volume(task, volume, at, progress)
            _note(task, done)
        at += volume.nbytes
        progress(at, task.total)
    if len(task.volumes) > 1:
        write_whole(task.folder / INDEX, index(task.volumes))
    tensors = (
        task.tensor(spec, volume, done[volume.name][spec.name]) for volume in task.volumes for spec in volume.specs
    )
    manifest = Manifest(task.seed, tuple(tensors))
    write_whole(task.final, json.dumps(manifest.to_dict(), indent=1) + "\n")
    task.journal.unlink(missing_ok=True)
    return manifest


def _note(task: Task, done: Mapping[str, Hashes]) -> None:
    write_whole(task.journal, json.dumps({"identity": task.identity(), "files": done}))


def _write_volume(task: Task, volume: Volume, at: int, progress: Progress) -> Hashes:
    """Write one file, and return the hashes of its tensors."""
    engine = streams.engine("auto", task.total // 4).name
    jobs = (job for spec in volume.specs for job in task.sources[spec.name].jobs(task.seed, engine))
    first = header(volume.specs, METADATA)
    with (
        whole_file(task.folder / volume.name, len(first) + volume.nbytes) as file,
        closing(in_order(jobs, task.threads)) as chunks,
        Sink(file) as sink,
    ):
        file.write(first)
        for spec in volume.specs:
            sink.open(spec.name)
            left = spec.nbytes
            while left:
                chunk = next(chunks)
                sink.write(spec.name, chunk)
                left -= chunk.nbytes
                at += chunk.nbytes
                progress(at, task.total)
        return sink.hashes()
