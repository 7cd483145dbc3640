"""The safetensors container: a JSON header with the place of each tensor, then their bytes, in an order that keeps them aligned."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stepzero.errors import FileError

CODES: Mapping[str, str] = MappingProxyType({
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "complex64": "C64",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
})  # fmt: skip
WIDTHS: Mapping[str, int] = MappingProxyType({
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "C64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
})  # fmt: skip
METADATA_KEY = "__metadata__"
_HEADER_LIMIT = 100_000_000  # bytes; readers refuse more


@dataclass(frozen=True, slots=True)
class Spec:
    """A tensor that a file holds.

    Args:
        name: Its key.
        shape: Its shape.
        dtype: Its number format, as torch spells it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def code(self) -> str:
        """Number format, as safetensors spells it."""
        return CODES[self.dtype]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return math.prod(self.shape) * WIDTHS[self.code]


def arranged(specs: Iterable[Spec]) -> tuple[Spec, ...]:
    """Return tensors in the order of their bytes: wide number formats first, so that each starts at a multiple of its width."""
    return tuple(sorted(specs, key=lambda spec: -WIDTHS[spec.code]))


def header(specs: Iterable[Spec], metadata: Mapping[str, str]) -> bytes:
    """Return the first bytes of the file: length, JSON, and spaces up to a multiple of eight."""
    table: dict[str, Any] = {METADATA_KEY: dict(metadata)}
    at = 0
    for spec in arranged(specs):
        table[spec.name] = {"dtype": spec.code, "shape": list(spec.shape), "data_offsets": [at, at + spec.nbytes]}
        at += spec.nbytes
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a file holds a tensor.

    Args:
        code: Number format, as safetensors spells it.
        shape: Its shape.
        begin: First byte in the file.
        end: Byte after its last.
    """

    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, Stored]:
    """Return what a safetensors file holds, by name.

    Raises:
        FileError: if it cannot be read or is not such a file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_HEADER_LIMIT, path.stat().st_size - 8):
                raise ValueError("its header has an impossible length")
            table = json.loads(file.read(length))
        start = 8 + length
        return {
            name: Stored(entry["dtype"], tuple(entry["shape"]), *(start + offset for offset in entry["data_offsets"]))
            for name, entry in table.items()
            if name != METADATA_KEY
        }
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path} is not a safetensors file: {error}.") from None
