"""Names of one side of a comparison as the other side spells them: patterns of a shell, regular expressions, rows of a packed tensor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from stepzero.errors import RenameError

from ._facts import Facts

ROWS = re.compile(r"\[(\d+):(\d+)\]$")


@dataclass(frozen=True, slots=True)
class Rename:
    r"""One rule: what matches, what it becomes, and the rows that it takes of a packed tensor.

    Args:
        text: The rule as it was written.
        pattern: What the whole name (of a shell pattern) or some part of it (of a regular expression) matches.
        new: What it becomes, with \1, \2 … for the groups.
        rows: First row, and the one after the last; None for the whole tensor.
        whole: Whether the pattern has to match the whole name.
    """

    text: str
    pattern: re.Pattern[str]
    new: str
    rows: tuple[int, int] | None = None
    whole: bool = True

    @classmethod
    def read(cls, text: str) -> Rename:
        r"""Return the rule `OLD=NEW`.

        In OLD, * stands for any text and ? for any character; NEW takes over the texts that stood for * in order. OLD[0:64]
        takes rows 0 to 63 of a packed tensor. `re:OLD=NEW` is a regular expression that is replaced wherever it is found, with \1 for groups.

        Raises:
            RenameError: if it is of another form.

        Examples:
            >>> rule = Rename.read("blocks.*.norm1.*=encoder.layer.*.layernorm_before.*")
            >>> rule.apply("blocks.3.norm1.weight")
            'encoder.layer.3.layernorm_before.weight'
        """
        old, equals, new = text.partition("=")
        if not (old and equals):
            raise RenameError(f"{text!r} is not of the form OLD=NEW.")
        rows = ROWS.search(old)
        cut = (int(rows[1]), int(rows[2])) if rows and not old.startswith("re:") else None
        if old.startswith("re:"):
            return cls(text, _compiled(text, old.removeprefix("re:")), new, None, whole=False)
        old = ROWS.sub("", old)
        if new.count("*") > old.count("*"):
            raise RenameError(f"{text!r}: NEW has more * than OLD, so nothing says what they stand for.")
        groups = iter(range(1, old.count("*") + 1))
        pattern = "".join({"*": "(.*?)", "?": "."}.get(letter, re.escape(letter)) for letter in old)
        template = "".join(rf"\g<{next(groups)}>" if letter == "*" else letter for letter in new)
        return cls(text, re.compile(pattern), template, cut)

    def matches(self, name: str) -> bool:
        """Say whether the rule applies to a name."""
        return bool(self.pattern.fullmatch(name) if self.whole else self.pattern.search(name))

    def apply(self, name: str) -> str:
        """Return what a name becomes."""
        found = self.pattern.fullmatch(name) if self.whole else None
        return found.expand(self.new) if found else self.pattern.sub(self.new, name)


def renamed(facts: Mapping[str, Facts], rules: Iterable[str]) -> dict[str, Facts]:
    """Return facts under the names that rules give them, each rule applied to what the ones before it left.

    Raises:
        RenameError: if a rule has no effect, rows do not exist, or two tensors get one name.
    """
    read = [Rename.read(rule) for rule in rules]
    found: dict[str, Facts] = {}
    used: set[str] = set()
    for old, known in facts.items():
        for name, part in _pieces(old, known, read, used):
            if name in found:
                raise RenameError(f"two tensors are renamed to {name!r}; one of them is {old!r}.")
            found[name] = part
    for rule in read:
        if rule.text not in used:
            near = get_close_matches(rule.text.partition("=")[0], facts, n=3, cutoff=0.4)
            hint = f" Near it: {', '.join(near)}." if near else ""
            raise RenameError(f"{rule.text!r} matches no tensor.{hint}")
    return found


def _pieces(name: str, known: Facts, rules: list[Rename], used: set[str]) -> list[tuple[str, Facts]]:
    cuts = [rule for rule in rules if rule.rows and rule.matches(name)]
    used.update(rule.text for rule in cuts)
    if not cuts:
        for rule in rules:
            if rule.matches(name):
                used.add(rule.text)
                name = rule.apply(name)
        return [(name, known)]
    pieces = []
    for rule in cuts:
        start, stop = rule.rows or (0, 0)
        if not known.shape or not 0 <= start < stop <= known.shape[0]:
            raise RenameError(f"{rule.text!r}: {name} of shape {known.shape} has no rows {start}:{stop}.")
        pieces.append((rule.apply(name), known.rows(start, stop)))
    return pieces


def _compiled(text: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise RenameError(f"{text!r}: {error} in the regular expression.") from None
