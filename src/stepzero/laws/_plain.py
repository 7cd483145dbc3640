"""Laws and recipes to plain data and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from stepzero.errors import LawError

from ._base import Law
from ._composed import Copy, Parts, Values, decoded
from ._elementwise import Constant, Kept, Normal, Sparse, TruncatedNormal, Uniform
from ._lengths import Norms, Sphere
from ._mapped import Mapped
from ._matrices import DeltaOrthogonal, Dirac, Identity, Orthogonal

LAWS: Mapping[str, type[Law]] = MappingProxyType(
    {
        law.kind: law
        for law in (
            Normal,
            Uniform,
            TruncatedNormal,
            Orthogonal,
            DeltaOrthogonal,
            Dirac,
            Identity,
            Sparse,
            Sphere,
            Constant,
            Values,
            Mapped,
            Parts,
            Copy,
            Norms,
            Kept,
        )
    }
)


def from_dict(data: Mapping[str, Any]) -> Law:
    """Return the law that `law.to_dict()` described.

    Raises:
        LawError: if the kind is unknown, or a setting is missing, unknown or impossible.

    Examples:
        >>> from_dict({"law": "normal", "std": 0.1, "mean": 0.0})
        Normal(std=0.1)
    """
    settings = dict(data)
    kind = settings.pop("law", None)
    if kind not in LAWS:
        raise LawError(f"law={kind!r} is not a law. Choose one of {', '.join(LAWS)}.")
    law = LAWS[kind]
    if kind in NESTED:
        return _nested(kind, settings)
    known = {field.name for field in fields(law)}
    if unknown := sorted(settings.keys() - known):
        raise LawError(f"{kind}: unknown setting {unknown[0]!r}. It takes {', '.join(sorted(known)) or 'none'}.")
    try:
        return law(**settings)
    except TypeError as error:
        raise LawError(f"{kind}: {error}. It takes {', '.join(sorted(known))}.") from None


def _nested(kind: str, settings: dict[str, Any]) -> Law:
    try:
        return NESTED[kind](settings)
    except LawError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise LawError(
            f"{kind}: {error!r} in {sorted(settings)}. It takes what to_dict() of such a law gives."
        ) from None


def _parts(settings: dict[str, Any]) -> Law:
    parts = [dict(part) for part in settings["parts"]]
    return Parts(tuple((part.pop("box"), from_dict(part)) for part in parts))


# Laws whose plain data holds other laws, or bytes.
NESTED: Mapping[str, Callable[[dict[str, Any]], Law]] = MappingProxyType(
    {
        "parts": _parts,
        "mapped": lambda settings: Mapped(from_dict(settings["of"]), tuple(map(tuple, settings["steps"]))),
        "norms": lambda settings: Norms(
            settings["of"], from_dict(settings["as"]), tuple(settings["shape"]), settings["axis"]
        ),
        "copy": lambda settings: Copy(settings["of"], from_dict(settings["as"])),
        "values": lambda settings: Values(settings["shape"], settings["dtype"], decoded(settings["data"])),
    }
)
