"""Where the bytes of each tensor in a file come from: a law of the plan, or a tensor to copy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from stepzero import streams
from stepzero.errors import LawError, PlanError
from stepzero.laws import Kept, Law

from ._arrays import as_array
from ._chunks import Job
from ._container import CODES, METADATA_KEY, Spec
from ._match import Entries, Entry

CHUNK = 2**19  # elements made at a time: few enough to be still in a cache when they are hashed and written


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes of one tensor come from: a law, or a tensor to copy."""

    spec: Spec
    law: Law | None
    tensor: torch.Tensor | None = None
    zero_row: int | None = None

    def jobs(self, seed: int, engine: streams.EngineName) -> Iterator[Job]:
        """Yield what makes its bytes, in order."""
        if self.law is not None:
            for region in self._regions(self.law):
                yield partial(self._draw, self.law, region, seed, engine)
        elif self.tensor is not None and self.tensor.numel():
            array = as_array(self.tensor.detach().cpu().contiguous())
            yield lambda: array.reshape(-1).view("uint8").data

    def facts(self) -> list[Any]:
        """Return, as plain data, all that decides its bytes apart from the seed."""
        if self.law is not None:
            content: Any = self.law.to_dict()
        else:
            content = hashlib.sha256(b"".join(job() for job in self.jobs(0, "numpy"))).hexdigest()
        return [self.spec.name, list(self.spec.shape), self.spec.dtype, content, self.zero_row]

    def _regions(self, law: Law) -> Iterator[streams.Region]:
        """Yield the parts that are made at a time; laws of whole matrices are made as a whole."""
        whole = streams.Region(self.spec.shape)
        if whole.size and streams.made_whole(law):
            yield whole
        elif whole.size:
            yield from (whole[cut] for cut in whole.pieces(CHUNK))

    def _draw(self, law: Law, region: streams.Region, seed: int, engine: streams.EngineName) -> memoryview:
        values = np.empty(region.shape, streams.storage(self.spec.dtype).numpy)
        streams.fill(values, law, seed, self.spec.name, region, dtype=self.spec.dtype, engine=engine)
        if self.zero_row is not None and self.zero_row in region.axes[0]:
            values[region.axes[0].index(self.zero_row)] = 0
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        return little.reshape(-1).view(np.uint8).data


def sources_of(
    plan: Entries, dtype: str | None, skip_kept: bool, buffers: Mapping[str, torch.Tensor], zero_rows: Mapping[str, int]
) -> list[Source]:
    """Return every tensor to write, checked.

    Raises:
        PlanError: if the plan keeps parameters, a format cannot be written or cannot hold a law, or a buffer has a parameter's name.
    """
    unknown = [name for name, entry in plan.items() if isinstance(entry.law, Kept)]
    if unknown and not skip_kept:
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        raise PlanError(
            f"nothing is known of the values of {', '.join(unknown[:8])}{more}, which the plan keeps. Give them a law, or pass skip_kept=True."
        )
    found = [
        _source(name, plan[name], dtype, zero_rows.get(name)) for name in plan if not isinstance(plan[name].law, Kept)
    ]
    _require_rows(zero_rows, {source.spec.name: source.spec.shape for source in found})
    for name, tensor in buffers.items():
        if name in plan:
            raise PlanError(f"{name} is both a parameter of the plan and a buffer. Give it once.")
        if tensor.is_meta:
            raise PlanError(f"the buffer {name} is on the meta device and has no values. Give one that has.")
        found.append(
            Source(
                Spec(name, tuple(tensor.shape), _writable(name, str(tensor.dtype).removeprefix("torch."))), None, tensor
            )
        )
    return found


def _source(name: str, entry: Entry, dtype: str | None, zero_row: int | None) -> Source:
    kind = entry.dtype if dtype is None or entry.dtype.startswith("complex") else dtype
    try:
        streams.require_drawable(entry.law, tuple(entry.shape), kind)
    except LawError as error:
        raise PlanError(f"{name}: {error}") from None
    return Source(Spec(name, tuple(entry.shape), _writable(name, kind)), entry.law, zero_row=zero_row)


def _require_rows(rows: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, row in rows.items():
        if name in shapes and not (shapes[name] and 0 <= row < shapes[name][0]):
            raise PlanError(f"zero_rows: {name} of shape {shapes[name]} has no row {row!r}.")


def _writable(name: str, dtype: str) -> str:
    streams.key(0, name)  # a name without a key has no values
    if name == METADATA_KEY:
        raise PlanError(f"safetensors keeps the name {name} for itself. Rename the tensor.")
    if dtype not in CODES:
        raise PlanError(f"{name}: safetensors has no {dtype}. Choose one of {', '.join(CODES)}.")
    return dtype
