"""Predicted against measured: plan each net, draw it several times, compare every weight op forward and backward.

python benchmarks/predictions.py                                # the nets that the package promises to get right
python benchmarks/predictions.py --set held-out                 # others of the same kinds
python benchmarks/predictions.py --set wide --out benchmarks/results/predictions.jsonl --seconds 170   # 60 nets, resumable
python benchmarks/predictions.py --set wide --out benchmarks/results/predictions.jsonl --summary       # its table
python benchmarks/predictions.py --set tokens --draws 4                          # transformers, mixers, language models
python benchmarks/predictions.py --images --draws 16 --only VGG-16

cumulative: E[y²] of a weight op, measured over predicted. local: the same ratio over that of the weight op before it.
backward: the step of E[g²] from a weight op to the one before it; first layer: E[g²] there for unit noise at the output.

Predicted is an expectation over the weights, so measured is the arithmetic mean over draws: their median is below it by
theory (E[y²] of a net without normalisation is close to log-normal, whose median is the mean times exp(-Var/2)). Each
local ratio comes with its standard error over the draws; the summary tells misses that chance explains from others.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from nets import HELD_OUT, ISSUE, WIDE, Case
from nets_tokens import TOKENS
from torch import nn

from stepzero import Plan, plan
from stepzero.checking._check import _floating, _moments, _site
from stepzero.checking._measure import Reading
from stepzero.checking._runs import run_draws
from stepzero.errors import StepZeroError
from stepzero.moments import Flow, propagate, weight_sites
from stepzero.network import ModelInputs, capture, random_state_kept, real_inputs

SETS = {"promised": ISSUE, "held-out": HELD_OUT, "wide": (*ISSUE, *HELD_OUT, *WIDE), "tokens": TOKENS}


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


def main() -> None:
    """Measure the chosen nets and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, default="promised", help="which nets (default: those with promises)")
    parser.add_argument("--draws", type=int, default=8, help="weight draws to average over (default 8)")
    parser.add_argument("--only", default="", help="nets whose name contains this")
    parser.add_argument("--images", action="store_true", help="1/f images of unit mean square instead of N(0, 1)")
    parser.add_argument("--out", type=Path, help="append results here, and skip what is there")
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no net after this long")
    parser.add_argument("--summary", action="store_true", help="print the table of --out and measure nothing")
    options = parser.parse_args()
    if options.summary:
        print(table(load(options.out)))
        return
    torch.set_num_threads(1)
    kind = "1/f images" if options.images else "N(0, 1)"
    done = {(r.net, r.inputs) for r in load(options.out)}
    cases = [c for c in SETS[options.set] if options.only.lower() in c.name.lower() and (c.name, kind) not in done]
    print(f"{options.draws} draws, {kind} input, training mode.\n{HEADER}", flush=True)
    start, missed = time.monotonic(), 0
    for case in cases:
        if time.monotonic() - start > options.seconds:
            break
        try:
            result = measure(case, options.draws, images=options.images)
        except (StepZeroError, RuntimeError, ValueError, TypeError) as error:  # one net must not end a long run
            print(f"{case.name:28} failed: {type(error).__name__}: {error}", flush=True)
            missed += 1
            continue
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps({k: rounded(v) for k, v in asdict(result).items()}) + "\n")
        kept = case.within is None or share(result.forward, case.within) >= 0.95
        promise = "" if case.within is None else f"{'kept' if kept else 'MISSED'}: 95 % within {case.within:.0%}"
        print(f"{line(result)}  {promise}", flush=True)
        missed += not kept
    raise SystemExit(1 if missed else 0)


def measure(case: Case, draws: int, *, images: bool) -> Result:
    """Plan and measure one net."""
    model = case.model()
    inputs = pink(case.shape) if images and isinstance(case.shape, tuple) else case.shape
    start = time.perf_counter()
    made = plan(model, inputs)
    seconds = time.perf_counter() - start
    flow, outputs, runs = drawn(model, inputs, made, draws)
    gradients = flow.gradients()
    predicted = [flow.second(output) for output in outputs.values()]
    measured = [[run[node].second for run in runs] for node in outputs]
    forward = [statistics.fmean(m) / p if p else math.nan for m, p in zip(measured, predicted, strict=True)]
    back = [(statistics.fmean(run[n].gradient or 0.0 for run in runs), gradients.get(n)) for n in outputs]
    ratios = [m / p for m, p in back if m and p]
    steps = [a / b for a, b in pairwise(ratios)]
    kind = "1/f images" if images else "N(0, 1)"
    first = ratios[0] if ratios else math.nan
    return Result(case.name, kind, case.normalised, draws, seconds, forward, steps, first, standard_errors(measured))


def drawn(
    model: nn.Module, inputs: Any, made: Plan, draws: int
) -> tuple[Flow, dict[int, int], list[dict[int, Reading]]]:
    """Predict a planned net and draw it: the flow, each weight op's output (by node id), and the readings of each draw."""
    call = real_inputs(ModelInputs.of(inputs, model), seed=0)
    graph = capture(model, call)
    flow = propagate(graph, _floating(model, call), _moments(model, graph, made))
    sites = [replace(_site(flow, node, x, axis), law=None) for node, x, axis in weight_sites(flow)]
    with random_state_kept():
        runs, _ = run_draws(model, graph, call, made, sites, draws, 0, True)
    return flow, {site.node.id: site.output for site in sites}, runs


def standard_errors(measured: Sequence[Sequence[float]]) -> list[float]:
    """Return the standard error of log(mean of an op / mean of the op before it), to first order in the draws' scatter."""
    relative = [[v / max(statistics.fmean(m), 1e-300) for v in m] for m in measured]
    differences = [[x - y for x, y in zip(b, a, strict=True)] for a, b in pairwise(relative)]
    return [statistics.stdev(d) / math.sqrt(len(d)) if len(d) > 1 else math.nan for d in differences]


def pink(shape: Sequence[int]) -> torch.Tensor:
    """Return images whose amplitude falls as 1/frequency (Field 1987), centred, of unit mean square."""
    space = list(range(2, len(shape)))
    noise = torch.fft.fftn(torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)), dim=space)
    square = torch.zeros(())
    for d in space:
        along = [-1 if i == d else 1 for i in range(len(shape))]
        square = square + torch.fft.fftfreq(shape[d]).reshape(along) ** 2
    amplitude = torch.where(square > 0, square.clamp_min(1e-12).rsqrt(), torch.zeros(()))
    x = torch.fft.ifftn(noise * amplitude, dim=space).real if space else noise.real
    return x / x.square().mean().sqrt()


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


def load(path: Path | None) -> list[Result]:
    """Read the results that are there."""
    if path is None or not path.exists():
        return []
    return [Result(**json.loads(text)) for text in path.read_text().splitlines()]


def rounded(value: Any) -> Any:
    """Five digits are enough."""
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
