"""What a saved initialisation consists of: law, seed, stream and content hash of every parameter, and the files that hold them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepzero import laws, reporting, streams
from stepzero.errors import FileError, StepZeroError
from stepzero.laws import Law
from stepzero.reporting import Column, Document, Table

FORMAT, VERSION = "stepzero-manifest", 1


@dataclass(frozen=True, slots=True)
class SavedTensor:
    """One tensor that was saved.

    Args:
        name: Canonical name.
        shape: Its shape.
        dtype: Number format in the file.
        law: What it was drawn from; None for a buffer that was copied.
        file: Name of the file that holds it.
        sha256: Hash of its bytes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    law: Law | None
    file: str
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data, without the name."""
        law = None if self.law is None else self.law.to_dict()
        return {"shape": list(self.shape), "dtype": self.dtype, "law": law, "file": self.file, "sha256": self.sha256}


@dataclass(frozen=True, slots=True, repr=False)
class Manifest:
    """What `save` wrote.

    Args:
        seed: The seed of all streams.
        tensors: The tensors, in the order of the files.
        stream: Specification that the values follow.
    """

    seed: int
    tensors: tuple[SavedTensor, ...]
    stream: str = streams.SPEC

    @property
    def digest(self) -> str:
        """SHA-256 over name, shape, format and bytes of every tensor, in the order of names; files do not enter."""
        facts = sorted([entry.name, list(entry.shape), entry.dtype, entry.sha256] for entry in self.tensors)
        return hashlib.sha256(json.dumps(facts, separators=(",", ":")).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as plain data: what its file holds."""
        head = {"format": FORMAT, "version": VERSION, "stream": self.stream, "seed": self.seed, "digest": self.digest}
        return {**head, "tensors": {entry.name: entry.to_dict() for entry in self.tensors}}

    @classmethod
    def from_dict(cls, data: Any) -> Manifest:
        """Return the manifest that `to_dict()` described.

        Raises:
            FileError: if it is no manifest, or one of a newer format.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT or data.get("version") != VERSION:
            raise FileError(f'this is not a manifest of format "{FORMAT}", version {VERSION}.')
        try:
            tensors = tuple(_tensor(name, entry) for name, entry in data["tensors"].items())
            return cls(int(data["seed"]), tensors, str(data["stream"]))
        except (KeyError, TypeError, ValueError, AttributeError, StepZeroError) as error:
            raise FileError(f"the manifest is damaged: {error!r}.") from None

    @classmethod
    def load(cls, path: Path | str) -> Manifest:
        """Return the manifest that stands in a file.

        Raises:
            FileError: if the file cannot be read, or holds no manifest.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, OSError) as error:
            raise FileError(f"{path} is not a manifest: {error}") from None

    def to_markdown(self) -> str:
        """Return the manifest as Markdown."""
        return reporting.markdown(self._document())

    def to_html(self) -> str:
        """Return the manifest as an HTML section."""
        return reporting.html(self._document())

    def __str__(self) -> str:
        return reporting.text(self._document())

    __repr__ = __str__

    def _document(self) -> Document:
        titles = ("tensor", "shape", "dtype", "law", "file", "sha256")
        columns = tuple(Column(title, "left", overflow=title == "tensor") for title in titles)
        rows = tuple(
            (
                entry.name,
                reporting.shape(entry.shape),
                entry.dtype,
                repr(entry.law or "copied"),
                entry.file,
                entry.sha256[:12],
            )
            for entry in self.tensors
        )
        files = len({entry.file for entry in self.tensors})
        head = f"{len(rows)} tensors in {files} file(s), seed {self.seed} ({self.stream}); digest {self.digest[:16]}."
        return Document.of("Manifest", [head, Table(columns, rows)])


def _tensor(name: str, data: Mapping[str, Any]) -> SavedTensor:
    law = None if data["law"] is None else laws.from_dict(data["law"])
    return SavedTensor(name, tuple(data["shape"]), data["dtype"], law, data["file"], data["sha256"])
