"""What a model's own constructor meant each of its tensors to hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from stepzero.laws import Law


@dataclass(frozen=True, slots=True)
class Part:
    """What one box of a tensor holds: a law, numbers, or neither, and then why.

    Args:
        where: Slices of the tensor; empty for all of it.
        law: The law that its elements follow.
        values: The numbers themselves, where they follow from constants.
        reason: Why neither is known, with the line of code.
    """

    where: tuple[slice, ...] = ()
    law: Law | None = None
    values: torch.Tensor | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the part as plain data."""
        return {
            "where": [[part.start, part.stop, part.step] for part in self.where],
            "law": None if self.law is None else self.law.to_dict(),
            "values": None if self.values is None else self.values.tolist(),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Origin:
    """How one parameter or buffer came by its values.

    Args:
        name: Canonical name.
        shape: Its shape.
        dtype: Its type.
        parameter: False for a buffer.
        parts: What it holds; where parts overlap, the later one counts.
        history: Every write, first to last, in words with the line of code.
        copy_of: The parameter that the same draw went to first, if it is not a draw of its own.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    parameter: bool
    parts: tuple[Part, ...]
    history: tuple[str, ...] = ()
    copy_of: str = ""

    @property
    def law(self) -> Law | None:
        """The law of the whole tensor; None where its parts differ, or where it is unread."""
        return self.parts[0].law if len(self.parts) == 1 else None

    @property
    def values(self) -> torch.Tensor | None:
        """The numbers of the whole tensor, where they follow from constants."""
        return self.parts[0].values if len(self.parts) == 1 else None

    @property
    def known(self) -> bool:
        """Whether every part has a law or numbers."""
        return all(part.law is not None or part.values is not None for part in self.parts)

    @property
    def reason(self) -> str:
        """Why not everything is known; empty if it is."""
        return "; ".join(dict.fromkeys(part.reason for part in self.parts if part.reason))

    def to_dict(self) -> dict[str, Any]:
        """Return the origin as plain data."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": str(self.dtype).removeprefix("torch."),
            "parameter": self.parameter,
            "parts": [part.to_dict() for part in self.parts],
            "history": list(self.history),
            "copy_of": self.copy_of,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Recording(Mapping[str, Origin]):
    """What a constructor drew and wrote: an origin for each parameter and buffer, by canonical name.

    Args:
        origins: Parameters first, in the model's order.
        rung: "meta", or "real" where the constructor reads random numbers and was run for real.
        assumed: What control flow was told.
        lost: Draws into temporaries, which have no effect, with their lines of code.
    """

    origins: Mapping[str, Origin]
    rung: str = "meta"
    assumed: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Origin:
        return self.origins[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.origins)

    def __len__(self) -> int:
        return len(self.origins)

    def unread(self) -> dict[str, str]:
        """Return the tensors whose law is not known, with the reason."""
        return {name: origin.reason for name, origin in self.origins.items() if not origin.known}

    def to_dict(self) -> dict[str, Any]:
        """Return the recording as plain data."""
        return {
            "rung": self.rung,
            "assumed": list(self.assumed),
            "lost": list(self.lost),
            "origins": [o.to_dict() for o in self.values()],
        }
