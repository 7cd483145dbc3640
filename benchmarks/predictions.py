"""Predicted against measured: plan each net, draw it several times, compare every weight op forward and backward.

python benchmarks/predictions.py                 # the nets that the package promises to get right
python benchmarks/predictions.py --held-out      # others of the same kinds
python benchmarks/predictions.py --draws 16 --only VGG-16
"""

from __future__ import annotations

import argparse
import math
import time
from itertools import pairwise

import torch
from nets import HELD_OUT, ISSUE, Case

from stepzero import check, plan
from stepzero.checking import CheckRow


def main() -> None:
    """Measure the chosen nets and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", action="store_true", help="nets that no rule was developed on")
    parser.add_argument("--draws", type=int, default=8, help="weight draws to average over (default 8)")
    parser.add_argument("--only", default="", help="nets whose name contains this")
    parser.add_argument("--rows", action="store_true", help="print every weight op")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{options.draws} draws, N(0, 1) input, training mode. fwd: E[y²] measured/predicted. bwd: local, of neighbouring weight ops."
    )
    print(
        f"{'net':24}{'ops':>5}{'fwd ≤10%':>10}{'≤20%':>7}{'worst':>13}{'bwd ≤10%':>10}{'first layer':>13}{'plan s':>8}  promise"
    )
    missed = 0
    for case in HELD_OUT if options.held_out else ISSUE:
        if options.only.lower() in case.name.lower():
            missed += not measure(case, options.draws, options.rows)
    raise SystemExit(1 if missed else 0)


def measure(case: Case, draws: int, every_row: bool) -> bool:
    """Plan and measure one net, print its line, and say whether it keeps its promise."""
    model = case.model()
    start = time.perf_counter()
    made = plan(model, case.shape)
    seconds = time.perf_counter() - start
    rows = check(model, case.shape, made, draws=draws).rows
    ratios = [row.ratio for row in rows]
    local = local_gradients(rows)
    absolute = rows[0].gradient_measured / rows[0].gradient_predicted if rows[0].gradient_predicted else math.nan
    kept = case.within is None or share(ratios, case.within) >= 0.95
    promise = "" if case.within is None else f"{'kept' if kept else 'MISSED'}: 95 % within {case.within:.0%}"
    worst = f"{min(ratios):.2f}…{max(ratios):.2f}"
    print(
        f"{case.name:24}{len(rows):5}{share(ratios, 0.1):10.0%}{share(ratios, 0.2):7.0%}{worst:>13}"
        f"{share(local, 0.1):10.0%}{absolute:13.2f}{seconds:8.2f}  {promise}",
        flush=True,
    )
    if every_row:
        for row in rows:
            print(
                f"    {row.name:44}{row.predicted:10.4f}{row.measured:10.4f}{row.ratio:8.3f}   local {row.local_measured / row.local_predicted:.3f}"
            )
    return kept


def local_gradients(rows: tuple[CheckRow, ...]) -> list[float]:
    """Measured over predicted step of the gradient from each weight op to the one before it."""
    pairs = [(r.gradient_measured, r.gradient_predicted) for r in rows if r.gradient_measured and r.gradient_predicted]
    ratios = [measured / predicted for measured, predicted in pairs]
    return [a / b for a, b in pairwise(ratios)]


def share(ratios: list[float], within: float) -> float:
    """Share of the ratios within a relative error of 1."""
    return sum(abs(ratio - 1) <= within for ratio in ratios) / max(1, len(ratios))


if __name__ == "__main__":
    main()
