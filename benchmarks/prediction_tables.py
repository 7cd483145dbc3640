"""What `predictions.py` found of a net, and the tables that are made of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True)
class Result:
    """What was found of one net."""

    net: str
    inputs: str
    normalised: bool
    draws: int
    seconds: float  # of planning
    forward: list[float]  # cumulative, measured over predicted
    backward: list[float]  # steps
    first: float
    errors: list[float] = field(default_factory=list)  # standard errors of the logs of the local steps

    @property
    def local(self) -> list[float]:
        """Steps of the cumulative ratio from op to op."""
        return [b / a for a, b in pairwise(self.forward) if a and b]


def share(ratios: Sequence[float], within: float) -> float:
    """Share of the ratios within a relative error of 1."""
    return sum(abs(ratio - 1) <= within for ratio in ratios) / max(1, len(ratios))


def bits(ratios: Sequence[float]) -> list[float]:
    """|log2| of the ratios, ascending."""
    return sorted(abs(math.log2(r)) for r in ratios if r > 0)


HEADER = (
    f"{'net':28}{'ops':>5}{'local ≤5%':>11}{'≤15%':>6}{'cum |log2| med':>16}{'worst':>7}"
    f"{'bwd ≤10%':>10}{'≤30%':>6}{'first layer':>13}{'plan s':>8}"
)


def line(r: Result) -> str:
    """One net's line."""
    off = bits(r.forward) or [math.nan]
    return (
        f"{r.net:28}{len(r.forward):5}{share(r.local, 0.05):11.0%}{share(r.local, 0.15):6.0%}"
        f"{statistics.median(off):16.3f}{off[-1]:7.2f}{share(r.backward, 0.1):10.0%}{share(r.backward, 0.3):6.0%}"
        f"{r.first:13.2f}{r.seconds:8.2f}"
    )


def table(results: Sequence[Result]) -> str:
    """All nets as Markdown, with the totals that were asked for."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += [
        "| " + " | ".join(cells(r)) + " |" for r in sorted(results, key=lambda r: (r.inputs, not r.normalised, r.net))
    ]
    return "\n".join([*lines, "", *totals(results)])


COLUMNS = (
    "net",
    "input",
    "ops",
    "local ≤ 5 / 15 %",
    "cumulative, abs log2: median / worst",
    "backward ≤ 10 / 30 %",
    "first layer",
)


def cells(r: Result) -> list[str]:
    """One net's row."""
    off = bits(r.forward) or [math.nan]
    return [
        r.net, r.inputs, str(len(r.forward)), f"{share(r.local, 0.05):.0%} / {share(r.local, 0.15):.0%}",
        f"{statistics.median(off):.3f} / {off[-1]:.2f}", f"{share(r.backward, 0.1):.0%} / {share(r.backward, 0.3):.0%}",
        f"{r.first:.2f}",
    ]  # fmt: skip


def totals(results: Iterable[Result]) -> list[str]:
    """Shares over all ops of all nets, and how many nets meet each aim."""
    found = list(results)
    local = [x for r in found for x in r.local]
    back = [x for r in found for x in r.backward]
    medians = [(r, statistics.median(bits(r.forward)), bits(r.forward)[-1]) for r in found if r.forward]
    first = [(r, max(r.first, 1 / r.first)) for r in found if r.first > 0]
    return [
        f"{len(found)} nets, {len(local)} steps. Forward, local: {share(local, 0.05):.1%} within 5 %, {share(local, 0.1):.1%} "
        f"within 10 %, {share(local, 0.15):.1%} within 15 %, {share(local, 0.3):.1%} within 30 %.",
        *by_chance(found),
        f"Backward, local: {share(back, 0.05):.1%} within 5 %, {share(back, 0.1):.1%} within 10 %, {share(back, 0.15):.1%} "
        f"within 15 %, {share(back, 0.3):.1%} within 30 %.",
        f"Cumulative |log2|: median ≤ 0.05 (normalised; 0.15 otherwise) in "
        f"{sum(m <= (0.05 if r.normalised else 0.15) for r, m, _ in medians)} of {len(medians)} nets; worst ≤ 0.5 in "
        f"{sum(w <= 0.5 for r, _, w in medians if r.normalised)} of {sum(r.normalised for r, _, _ in medians)} normalised ones.",
        f"First-layer gradient within a factor 1.5 (normalised; 1.25 otherwise) in "
        f"{sum(f <= (1.5 if r.normalised else 1.25) for r, f in first)} of {len(first)} nets.",
    ]


def by_chance(results: Iterable[Result]) -> list[str]:
    """Shares of the local steps that the draws measured well, and how many misses chance explains."""
    found = [r for r in results if len(r.errors) == len(r.local)]
    pairs = [(x, e) for r in found for x, e in zip(r.local, r.errors, strict=True)]
    sharp = [x for x, e in pairs if e <= 0.02]
    if not sharp:
        return []
    explained = sum(abs(math.log(x)) <= max(0.05, 2 * e) for x, e in pairs) / len(pairs)
    return [
        f"Of these {len(pairs)} come with a standard error over the draws; it is at most 2 % for {len(sharp)}, of which "
        f"{share(sharp, 0.05):.1%} are within 5 %, {share(sharp, 0.1):.1%} within 10 %, {share(sharp, 0.15):.1%} within 15 %. "
        f"{explained:.1%} of all are within 5 % or two standard errors.",
    ]
