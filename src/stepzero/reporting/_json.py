"""Plain data as JSON that people can read and diff: whatever fits on a line stands on one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

INDENT = "  "


def dumps(data: Any, width: int = 100) -> str:
    """Return strict JSON with a newline at its end; keys keep their order.

    Numbers that JSON does not have are written as the strings "inf", "-inf" and "nan", which `float()` reads.

    Args:
        data: Mappings with text keys, lists, tuples, text, numbers, booleans, None; NumPy numbers too.
        width: Longest line of a container that is not broken up.

    Raises:
        TypeError: if there is something else in it.

    Examples:
        >>> print(dumps({"shape": (64, 3), "second_moment": float("inf")}), end="")
        {"shape": [64, 3], "second_moment": "inf"}
    """
    return _write(_plain(data), "", width) + "\n"


def _plain(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple, set, frozenset)):
        return [_plain(value) for value in (sorted(data) if isinstance(data, (set, frozenset)) else data)]
    if hasattr(data, "item") and getattr(data, "ndim", 0) == 0:  # a NumPy number
        data = data.item()
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    return data


def _write(data: Any, indent: str, width: int) -> str:
    flat = json.dumps(data, ensure_ascii=False, allow_nan=False)
    if not isinstance(data, (dict, list)) or not data or len(indent) + len(flat) <= width:
        return flat
    deeper = indent + INDENT
    if isinstance(data, dict):
        keys = (json.dumps(key, ensure_ascii=False) for key in data)
        parts = [f"{key}: {_write(value, deeper, width)}" for key, value in zip(keys, data.values(), strict=True)]
        return _block("{", parts, "}", indent)
    return _block("[", (_write(value, deeper, width) for value in data), "]", indent)


def _block(opening: str, parts: Iterable[str], closing: str, indent: str) -> str:
    inside = ",\n".join(f"{indent}{INDENT}{part}" for part in parts)
    return f"{opening}\n{inside}\n{indent}{closing}"
