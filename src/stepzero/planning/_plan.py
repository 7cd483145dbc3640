"""A plan: an entry for each parameter of a model, as a value that can be saved, shown and applied."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from stepzero import filling, reporting
from stepzero.errors import PlanError
from stepzero.theory import Explanation

from ._entry import Entry
from ._explain import explain_entry

FORMAT = "stepzero-plan"
VERSION = 1  # of the plan file; a reader refuses what is newer than itself
REPR_ROWS = 40  # a notebook cell is not the place for a thousand rows; print(plan) shows them all


@dataclass(frozen=True, slots=True, repr=False)
class Plan(Mapping[str, Entry]):
    """A law for each parameter of a model: a mapping from canonical parameter names to entries.

    Args:
        entries: One for each parameter, in the model's order; tied parameters once.
        goal: What the plan holds constant: "forward", "backward" or "balanced".
        inputs: The call that it was made for, in words.
        model: Name of the model.
        notes: What a reader should know: what was assumed, probed or kept, and why.

    Raises:
        PlanError: if two entries have one name.

    Examples:
        >>> from stepzero.laws import Normal
        >>> plan = Plan((Entry("weight", (4, 8), "float32", Normal(0.5)),), model="Linear")
        >>> plan["weight"].law.std
        0.5
    """

    entries: tuple[Entry, ...]
    goal: str = "forward"
    inputs: str = ""
    model: str = ""
    notes: tuple[str, ...] = ()
    _by_name: dict[str, Entry] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", tuple(self.entries))
        object.__setattr__(self, "notes", tuple(self.notes))
        by_name: dict[str, Entry] = {}
        for entry in self.entries:
            if entry.name in by_name:
                raise PlanError(
                    f"two entries are named {entry.name!r}. A tied parameter has one, under its first name."
                )
            by_name[entry.name] = entry
        object.__setattr__(self, "_by_name", by_name)

    def __getitem__(self, name: str) -> Entry:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self.entries)

    def explain(self, name: str) -> Explanation:
        """Return why a parameter has its law: what reaches it, what it is held to, and what follows.

        Raises:
            PlanError: if the plan has no parameter of this name; the message names the nearest ones.
        """
        return explain_entry(self._known(name))

    def why(self, name: str) -> str:
        """Return who chose a parameter's law, the goal, a policy or you, in one sentence with its source.

        Raises:
            PlanError: as for `explain`.
        """
        entry = self._known(name)
        return entry.why or "; ".join(entry.reasons) or f"{name} was given as {entry.law!r}, without a reason."

    def _known(self, name: str) -> Entry:
        if name not in self:
            near = get_close_matches(name, self, n=3, cutoff=0.4)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise PlanError(f"the plan has no parameter {name!r}.{hint}")
        return self[name]

    def apply_(self, model: Any, seed: int = 0) -> filling.Receipt:
        """Draw every parameter of the plan into a model, in place; what the plan keeps, or does not list, stays.

        Args:
            model: The module that the plan was made for.
            seed: 0 ≤ seed < 2^64. Values depend on seed, name and index alone.

        Raises:
            ApplyError: if names, shapes or types do not match; the model is as it was.
            SeedError: if the seed is out of range.
        """
        return filling.apply(self, model, seed)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the plan as JSON, whole or not at all, and return the path.

        Raises:
            FileError: if the file is there already and `overwrite` is False, or cannot be written.
        """
        return reporting.write_text(path, reporting.dumps(self.to_dict()), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Return the plan that `save` wrote.

        Raises:
            FileError: if the file cannot be read.
            PlanError: if it is not a plan, or one of a newer format.
        """
        try:
            return cls.from_dict(json.loads(reporting.read_text(path)))
        except json.JSONDecodeError as error:
            raise PlanError(f"{path} is not a plan: no JSON at line {error.lineno}, column {error.colno}.") from None
        except PlanError as error:
            raise PlanError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data: what a plan file holds."""
        head = {"format": FORMAT, "version": VERSION, "model": self.model, "goal": self.goal, "inputs": self.inputs}
        entries = {entry.name: entry.to_dict() for entry in self.entries}
        return {**head, "notes": list(self.notes), "parameters": entries}

    @classmethod
    def from_dict(cls, data: Any) -> Plan:
        """Return the plan that `to_dict()` described.

        Raises:
            PlanError: if it is no plan, one of a newer format, or one of its entries is not readable.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise PlanError(f'this is not a plan: "format" is not "{FORMAT}". Plan.save writes one.')
        version = data.get("version")
        if not isinstance(version, int) or not 1 <= version <= VERSION:
            raise PlanError(
                f"plan format {version!r} is not known; this stepzero reads up to {VERSION}. Update stepzero."
            )
        if not isinstance(data.get("parameters"), Mapping):
            raise PlanError('"parameters" is not a mapping from names to entries.')
        entries = tuple(Entry.from_dict(name, entry) for name, entry in data["parameters"].items())
        head = {key: str(data.get(key, "")) for key in ("goal", "inputs", "model")}
        return cls(entries, notes=tuple(map(str, data.get("notes", ()))), **head)

    def to_markdown(self) -> str:
        """Return every parameter, with its reasons, as Markdown."""
        return reporting.markdown(reporting.plan_document(self, everything=True))

    def to_html(self) -> str:
        """Return every parameter, with its reasons, as an HTML section."""
        return reporting.html(reporting.plan_document(self, everything=True))

    def __str__(self) -> str:
        return reporting.text(reporting.plan_document(self))

    def __repr__(self) -> str:
        return reporting.text(reporting.plan_document(self, most=REPR_ROWS))

    def _repr_html_(self) -> str:
        return reporting.html(reporting.plan_document(self, most=REPR_ROWS))
