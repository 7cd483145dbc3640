"""Predicted against measured: plan each net, draw it several times, compare every weight op forward and backward.

python benchmarks/predictions.py                                # the nets that the package promises to get right
python benchmarks/predictions.py --set held-out                 # others of the same kinds
python benchmarks/predictions.py --set wide --out benchmarks/results/predictions.jsonl --seconds 170   # 60 nets, resumable
python benchmarks/predictions.py --set wide --out benchmarks/results/predictions.jsonl --summary       # its table
python benchmarks/predictions.py --set tokens --draws 4                          # transformers, mixers, language models
python benchmarks/predictions.py --set fresh --draws 8 --known 0.02 --most 64    # nets that no rule was looked at with
python benchmarks/predictions.py --images --draws 16 --only VGG-16

cumulative: E[y²] of a weight op, measured over predicted. local: the same ratio over that of the weight op before it.
backward: the step of E[g²] from a weight op to the one before it; first layer: E[g²] there for unit noise at the output.

Predicted is an expectation over the weights, so measured is the arithmetic mean over draws: their median is below it by
theory (E[y²] of a net without normalisation is close to log-normal, whose median is the mean times exp(-Var/2)). Each
local ratio comes with its standard error over the draws; the summary tells misses that chance explains from others.
--known goes on drawing, --draws at a time, until nine in ten of these errors are that small, or --most draws are done.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from nets import FRESH, HELD_OUT, ISSUE, WIDE, Case
from nets_tokens import TOKENS
from prediction_tables import HEADER, Result, line, share, table
from torch import nn

from stepzero import Plan, plan
from stepzero.checking._check import _floating, _moments, _site
from stepzero.checking._measure import Reading
from stepzero.checking._runs import run_draws
from stepzero.errors import StepZeroError
from stepzero.moments import Flow, propagate, weight_sites
from stepzero.network import ModelInputs, capture, random_state_kept, real_inputs

SETS = {"promised": ISSUE, "held-out": HELD_OUT, "wide": (*ISSUE, *HELD_OUT, *WIDE), "fresh": FRESH, "tokens": TOKENS}


@dataclass(frozen=True)
class Effort:
    """How many draws a net gets: `draws` at a time, until nine in ten standard errors are `known`, at most `most`."""

    draws: int
    known: float = 0.0
    most: int = 0

    def __str__(self) -> str:
        return f"{self.draws} to {self.most} draws" if self.known else f"{self.draws} draws"

    def enough(self, measured: Sequence[Sequence[float]]) -> bool:
        """Whether these draws of each op will do."""
        errors = sorted(standard_errors(measured))
        done = len(measured[0]) if measured else self.most
        return not self.known or done >= self.most or not errors or errors[int(0.9 * (len(errors) - 1))] <= self.known


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
    parser.add_argument("--known", type=float, default=0.0, help="draw until 9 in 10 standard errors are this small")
    parser.add_argument(
        "--most", type=int, default=0, help="with --known: never more draws than this (default 8 times --draws)"
    )
    options = parser.parse_args()
    effort = Effort(options.draws, options.known, options.most or 8 * options.draws)
    if options.summary:
        print(table(load(options.out)))
        return
    torch.set_num_threads(1)
    kind = "1/f images" if options.images else "N(0, 1)"
    done = {(r.net, r.inputs) for r in load(options.out)}
    cases = [c for c in SETS[options.set] if options.only.lower() in c.name.lower() and (c.name, kind) not in done]
    print(f"{effort}, {kind} input, training mode.\n{HEADER}", flush=True)
    start, missed = time.monotonic(), 0
    for case in cases:
        if time.monotonic() - start > options.seconds:
            break
        try:
            result = measure(case, effort, images=options.images)
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


def measure(case: Case, effort: Effort, *, images: bool) -> Result:
    """Plan and measure one net."""
    model = case.model()
    inputs = pink(case.shape) if images and isinstance(case.shape, tuple) else case.shape
    start = time.perf_counter()
    made = plan(model, inputs)
    seconds = time.perf_counter() - start
    flow, outputs, runs = drawn(model, inputs, made, effort)
    gradients = flow.gradients()
    predicted = [flow.second(output) for output in outputs.values()]
    measured = [[run[node].second for run in runs] for node in outputs]
    forward = [statistics.fmean(m) / p if p else math.nan for m, p in zip(measured, predicted, strict=True)]
    back = [(statistics.fmean(run[n].gradient or 0.0 for run in runs), gradients.get(n)) for n in outputs]
    ratios = [m / p for m, p in back if m and p]
    steps = [a / b for a, b in pairwise(ratios)]
    kind = "1/f images" if images else "N(0, 1)"
    first = ratios[0] if ratios else math.nan
    return Result(
        case.name, kind, case.normalised, len(runs), seconds, forward, steps, first, standard_errors(measured)
    )


def drawn(
    model: nn.Module, inputs: Any, made: Plan, effort: Effort
) -> tuple[Flow, dict[int, int], list[dict[int, Reading]]]:
    """Predict a planned net and draw it: the flow, each weight op's output (by node id), and the readings of each draw."""
    call = real_inputs(ModelInputs.of(inputs, model), seed=0)
    graph = capture(model, call)
    flow = propagate(graph, _floating(model, call), _moments(model, graph, made))
    sites = [replace(_site(flow, node, x, axis), law=None) for node, x, axis in weight_sites(flow)]
    runs: list[dict[int, Reading]] = []
    with random_state_kept():
        while not runs or not effort.enough([[run[site.node.id].second for run in runs] for site in sites]):
            runs += run_draws(model, graph, call, made, sites, effort.draws, len(runs), True)[0]
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
