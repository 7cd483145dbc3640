"""What differs between two plans, models, manifests or checkpoints: shape, format, law, seed, or nothing but the bits."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from stepzero import reporting
from stepzero.errors import FileError
from stepzero.laws import Law
from stepzero.network import buffer_slots, parameter_slots
from stepzero.reporting import Column, Document, Table

from ._arrays import as_array
from ._container import CODES, read_header
from ._manifest import Manifest
from ._task import content_hash
from ._volumes import INDEX

DTYPES = {code: dtype for dtype, code in CODES.items()}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one tensor; None where nothing is."""

    shape: tuple[int, ...]
    dtype: str
    law: Law | None = None
    seed: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One tensor that differs.

    Args:
        name: Canonical name.
        what: `missing`, `shape`, `dtype`, `law`, `seed` or `bits`: the first of these that differs and would explain the bits.
        first: What it is on the first side, in words.
        second: What it is on the second side, in words.
    """

    name: str
    what: str
    first: str
    second: str


@dataclass(frozen=True, slots=True, repr=False)
class Diff:
    """Every tensor that differs.

    Args:
        differences: In the order of the first side, then those that only the second has.
        same: Number of tensors that do not differ.
    """

    differences: tuple[Difference, ...]
    same: int

    def __bool__(self) -> bool:
        """Say whether anything differs."""
        return bool(self.differences)

    def to_dict(self) -> dict[str, Any]:
        """Return the differences as plain data."""
        fields = ("name", "what", "first", "second")
        return {
            "same": self.same,
            "differences": [{key: getattr(row, key) for key in fields} for row in self.differences],
        }

    def to_markdown(self) -> str:
        """Return the differences as Markdown."""
        return reporting.markdown(self._document())

    def to_html(self) -> str:
        """Return the differences as an HTML section."""
        return reporting.html(self._document())

    def __str__(self) -> str:
        return reporting.text(self._document())

    __repr__ = __str__

    def _document(self) -> Document:
        titles = ("tensor", "differs in", "first", "second")
        columns = tuple(Column(title, "left", overflow=title == "tensor") for title in titles)
        rows = tuple((row.name, row.what, row.first, row.second) for row in self.differences)
        return Document.of("Differences", [f"{len(rows)} tensors differ, {self.same} do not.", Table(columns, rows)])


def diff(first: Any, second: Any) -> Diff:
    """Return which tensors differ, and in what.

    Args:
        first: A plan, a `torch.nn.Module`, a `Manifest`, or the path of a manifest, a safetensors file or a folder of shards.
        second: Another; the two may be of different kinds, and are compared in what both know.

    Raises:
        FileError: if a path cannot be read.
        TypeError: if it is none of these.
    """
    one, other = facts_of(first), facts_of(second)
    found = [row for name in {**one, **other} if (row := _difference(name, one.get(name), other.get(name)))]
    return Diff(tuple(found), len({**one, **other}) - len(found))


def facts_of(source: Any) -> dict[str, Facts]:
    """Return what is known of each tensor of a source, by canonical name."""
    if isinstance(source, str | os.PathLike):
        return _of_path(Path(source))
    for kind, read in READERS.items():
        if isinstance(source, kind):
            return read(source)
    raise TypeError(f"{type(source).__name__} cannot be compared. Give a plan, a model, a Manifest or a path.")


def _difference(name: str, one: Facts | None, other: Facts | None) -> Difference | None:
    if one is None or other is None:
        there = "there"
        return Difference(name, "missing", there if one else "-", there if other else "-")
    for what in ("shape", "dtype"):
        if (a := getattr(one, what)) != (b := getattr(other, what)):
            return Difference(name, what, str(a), str(b))
    if one.sha256 and other.sha256 and one.sha256 == other.sha256:
        return None
    for what in ("law", "seed"):
        a, b = getattr(one, what), getattr(other, what)
        if a is not None and b is not None and a != b:
            return Difference(name, what, str(a), str(b))
    if one.sha256 and other.sha256:
        return Difference(name, "bits", one.sha256[:12], other.sha256[:12])
    return None


def _of_plan(plan: Mapping[str, Any]) -> dict[str, Facts]:
    return {name: Facts(tuple(entry.shape), entry.dtype, entry.law) for name, entry in plan.items()}


def _of_manifest(manifest: Manifest) -> dict[str, Facts]:
    return {
        entry.name: Facts(entry.shape, entry.dtype, entry.law, manifest.seed, entry.sha256)
        for entry in manifest.tensors
    }


def _of_model(model: nn.Module) -> dict[str, Facts]:
    found = {}
    for name, slot in {**parameter_slots(model), **buffer_slots(model)}.items():
        tensor = slot.tensor
        digest = None if tensor.is_meta else hashlib.sha256(as_array(tensor.cpu().contiguous()).tobytes()).hexdigest()
        found[name] = Facts(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), sha256=digest)
    return found


def _of_path(path: Path) -> dict[str, Facts]:
    if path.suffix == ".json" and path.name != INDEX:
        return _of_manifest(Manifest.load(path))
    folder, files = _files(path)
    stored = {
        name: Facts(place.shape, DTYPES.get(place.code, place.code), sha256=content_hash(file, place.begin, place.end))
        for file in files
        for name, place in read_header(file).items()
    }
    beside = folder / (
        "stepzero.json" if path != files[0] else f"{path.name.removesuffix('.safetensors')}.stepzero.json"
    )
    known = _of_manifest(Manifest.load(beside)) if beside.exists() else {}
    return {name: _with_origin(facts, known.get(name)) for name, facts in stored.items()}


def _with_origin(facts: Facts, known: Facts | None) -> Facts:
    """Return facts read from bytes, with law and seed from the manifest where its hash vouches for the bytes."""
    if known is None or known.sha256 != facts.sha256:
        return facts
    return Facts(facts.shape, facts.dtype, known.law, known.seed, facts.sha256)


def _files(path: Path) -> tuple[Path, list[Path]]:
    """Return the folder of a checkpoint, and its files."""
    if path.is_file() and path.name != INDEX:
        return path.parent, [path]
    folder = path if path.is_dir() else path.parent
    try:
        if (folder / INDEX).exists():
            names = dict.fromkeys(json.loads((folder / INDEX).read_text())["weight_map"].values())
            return folder, [folder / name for name in names]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise FileError(f"{folder / INDEX} is not an index of shards: {error}.") from None
    if found := sorted(folder.glob("*.safetensors")):
        return folder, found
    raise FileError(f"{path} holds no safetensors file.")


READERS: Mapping[type, Callable[[Any], dict[str, Facts]]] = MappingProxyType({
    Manifest: _of_manifest, nn.Module: _of_model, Mapping: _of_plan,
})  # fmt: skip
