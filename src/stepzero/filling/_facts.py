"""What is known of each tensor of a plan, a model, a manifest or a checkpoint: shape, format, law, seed, size, and a hash of its bits."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from stepzero.errors import FileError, LawError
from stepzero.laws import Constant, Kept, Law, Mapped, Normal, Parts, TruncatedNormal, Uniform
from stepzero.network import buffer_slots, parameter_slots, recorded_laws

from ._arrays import as_array
from ._container import CODES, read_header
from ._manifest import Manifest
from ._task import content_hash
from ._volumes import INDEX

DTYPES = {code: dtype for dtype, code in CODES.items()}
ALIKE = (Normal, Uniform, TruncatedNormal, Mapped, Constant)  # laws of which any part follows the law of the whole


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one tensor; None where nothing is."""

    shape: tuple[int, ...]
    dtype: str
    law: Law | None = None
    seed: int | None = None
    sha256: str | None = None
    rms: float | None = None  # root mean square of its values, where they are at hand

    @property
    def size(self) -> float | None:
        """Root mean square of an element: of its values, or by its law."""
        if self.rms is not None or self.law is None or isinstance(self.law, Kept):
            return self.rms
        try:
            return math.sqrt(float(np.broadcast_to(self.law.moments(self.shape)[1], self.shape).mean()))
        except (LawError, ValueError):
            return None

    def rows(self, start: int, stop: int) -> Facts:
        """Return what is known of some rows."""
        law: Law | None = self.law if isinstance(self.law, ALIKE) else None
        if isinstance(self.law, Parts):
            covering = [
                part for box, part in self.law.parts if box[:1] == ((start, stop),) and _rest_is_whole(box, self.shape)
            ]
            law = covering[-1] if covering else None
        return Facts((stop - start, *self.shape[1:]), self.dtype, law, self.seed)


def _rest_is_whole(box: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> bool:
    return all(cut == (0, size) for cut, size in zip(box[1:], shape[1:], strict=False))


def facts_of(source: Any) -> dict[str, Facts]:
    """Return what is known of each tensor of a source, by canonical name."""
    if isinstance(source, str | os.PathLike):
        return _of_path(Path(source))
    for kind, read in READERS.items():
        if isinstance(source, kind):
            return read(source)
    raise TypeError(f"{type(source).__name__} cannot be compared. Give a plan, a model, a Manifest or a path.")


def _of_plan(plan: Mapping[str, Any]) -> dict[str, Facts]:
    return {name: Facts(tuple(entry.shape), entry.dtype, entry.law) for name, entry in plan.items()}


def _of_manifest(manifest: Manifest) -> dict[str, Facts]:
    return {
        entry.name: Facts(entry.shape, entry.dtype, entry.law, manifest.seed, entry.sha256)
        for entry in manifest.tensors
    }


def _of_model(model: nn.Module) -> dict[str, Facts]:
    """Return what a model holds; of tensors on meta, the laws that `build` recorded."""
    laws = recorded_laws(model)
    found = {}
    for name, slot in {**parameter_slots(model), **buffer_slots(model)}.items():
        shape, dtype = tuple(slot.tensor.shape), str(slot.tensor.dtype).removeprefix("torch.")
        found[name] = Facts(shape, dtype, laws.get(name)) if slot.tensor.is_meta else _of_values(slot.tensor.detach())
    return found


def _of_values(tensor: torch.Tensor) -> Facts:
    values = tensor.cpu().contiguous()
    digest = hashlib.sha256(as_array(values).tobytes()).hexdigest()
    rms = float(values.double().square().mean().sqrt()) if values.is_floating_point() and values.numel() else None
    return Facts(tuple(values.shape), str(values.dtype).removeprefix("torch."), sha256=digest, rms=rms)


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
    return replace(facts, law=known.law, seed=known.seed)


def _files(path: Path) -> tuple[Path, list[Path]]:
    """Return the folder of a checkpoint, and its files."""
    if path.is_file() and path.name != INDEX:
        return path.parent, [path]
    folder = path if path.is_dir() else path.parent
    try:
        if (folder / INDEX).exists():
            names = dict.fromkeys(json.loads((folder / INDEX).read_text())["weight_map"].values())
            return folder, [folder / name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{folder / INDEX} is not an index of shards: {error}.") from None
    if found := sorted(folder.glob("*.safetensors")):
        return folder, found
    raise FileError(f"{path} holds no safetensors file.")


READERS: Mapping[type, Callable[[Any], dict[str, Facts]]] = MappingProxyType({
    Manifest: _of_manifest, nn.Module: _of_model, Mapping: _of_plan,
})  # fmt: skip
