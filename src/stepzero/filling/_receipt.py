"""What was written into a model: by which law, from which seed, and what stayed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from stepzero import reporting, streams
from stepzero.laws import Law
from stepzero.reporting import Column, Document, Table


@dataclass(frozen=True, slots=True)
class Written:
    """One parameter that was drawn.

    Args:
        name: Canonical name.
        shape: Shape of the whole tensor, also where only a shard of it was written here.
        dtype: Number format that the values were rounded to.
        law: What they were drawn from.
        note: What else was done to it, in words.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    law: Law
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        data = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype, "law": self.law.to_dict()}
        return data | ({"note": self.note} if self.note else {})


@dataclass(frozen=True, slots=True, repr=False)
class Receipt:
    """What one call wrote, and what it left alone.

    Args:
        seed: The seed of all streams.
        written: The parameters drawn, in the model's order.
        kept: Names of parameters that the plan keeps, or does not list.
        computed: Names of buffers that were recomputed.
        stream: Specification that the values follow.
    """

    seed: int
    written: tuple[Written, ...]
    kept: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    stream: str = streams.SPEC

    @property
    def digest(self) -> str:
        """SHA-256 over all that decides the values: stream, seed, and each parameter's name, shape, format and law.

        Equal digests mean equal bits, on any device and for any sharding, since nothing else enters into a value.
        """
        facts = [self.stream, self.seed, [entry.to_dict() for entry in self.written]]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as plain data."""
        return {
            "stream": self.stream,
            "seed": self.seed,
            "digest": self.digest,
            "written": [entry.to_dict() for entry in self.written],
            "kept": list(self.kept),
            "computed": list(self.computed),
        }

    def to_markdown(self) -> str:
        """Return the receipt as Markdown."""
        return reporting.markdown(self._document())

    def to_html(self) -> str:
        """Return the receipt as an HTML section."""
        return reporting.html(self._document())

    def __str__(self) -> str:
        return reporting.text(self._document())

    __repr__ = __str__

    def _document(self) -> Document:
        columns = (Column("parameter", "left", overflow=True), Column("shape"), Column("dtype"), Column("law", "left"))
        rows = tuple(
            (entry.name, reporting.shape(entry.shape), entry.dtype, f"{entry.law!r}{entry.note and f' ({entry.note})'}")
            for entry in self.written
        )
        lists = [
            f"{word}: {', '.join(names)}."
            for word, names in (("Kept", self.kept), ("Computed", self.computed))
            if names
        ]
        drawn = (
            f"{len(self.written)} parameters drawn with seed {self.seed} ({self.stream}); digest {self.digest[:16]}."
        )
        return Document.of("Receipt", [drawn, Table(columns, rows), *lists])
