"""Which tensor goes into which file: one file, or shards of a given size with the index that transformers reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

from stepzero.errors import FileError

from ._container import Spec, arranged

INDEX = "model.safetensors.index.json"
_UNITS = MappingProxyType({
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Volume:
    """One file, and the tensors that go into it in the order of their bytes."""

    name: str
    specs: tuple[Spec, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(spec.nbytes for spec in self.specs)


def bytes_of(size: int | str) -> int:
    """Return a size such as 5_000_000_000, "5GB" (10^9) or "4GiB" (2^30) in bytes.

    Raises:
        FileError: if it is no positive size.

    Examples:
        >>> bytes_of("1.5 MB")
        1500000
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(size))
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None or isinstance(size, bool) or not int(float(found[1]) * unit):
        raise FileError(
            f"{size!r} is no size of a file. Give bytes, or a number with KB, MB, GB or GiB, such as '5GB'."
        )
    return int(float(found[1]) * unit)


def split(specs: Iterable[Spec], limit: int) -> tuple[Volume, ...]:
    """Return shards of at most `limit` bytes, filled in the given order; a larger tensor has one of its own.

    Shards are named as transformers names them: model-00001-of-00003.safetensors, or model.safetensors where one is enough.
    """
    groups: list[list[Spec]] = []
    room = 0
    for spec in specs:
        if not groups or spec.nbytes > room:
            groups.append([])
            room = limit
        groups[-1].append(spec)
        room -= spec.nbytes
    names = [f"model-{i:05d}-of-{len(groups):05d}.safetensors" for i in range(1, len(groups) + 1)]
    if len(groups) == 1:
        names = ["model.safetensors"]
    return tuple(Volume(name, arranged(group)) for name, group in zip(names, groups, strict=True))


def index(volumes: Iterable[Volume]) -> str:
    """Return the text of the index beside the shards."""
    every = tuple(volumes)
    places = {spec.name: volume.name for volume in every for spec in volume.specs}
    total = sum(volume.nbytes for volume in every)
    return json.dumps({"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}, indent=2) + "\n"
