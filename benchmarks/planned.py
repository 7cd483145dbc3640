"""What a plan holds: second moments over the layers, beside those of torch's default and of Kaiming's two modes.

python benchmarks/planned.py            # mean of 16 draws (64 for the 30 plain convolutions), as promised
python benchmarks/planned.py --quick    # 4 draws
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from nets import ISSUE, Case
from torch import nn

from stepzero import check, plan


@dataclass(frozen=True)
class Promise:
    """Bounds on the mean measured second moment of a share of the layers."""

    net: str
    low: float
    high: float
    share: float
    draws: int = 16


PROMISES = (
    Promise("DCGAN, no norm", 0.75, 1.33, 1.0),
    Promise("U-Net, no norm", 0.75, 1.33, 1.0),
    Promise("VGG-16", 0.7, 1.3, 0.9),
    Promise("30 plain convolutions", 0.5, 1.5, 1.0, draws=64),
)


def main() -> None:
    """Print a block for each net."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 draws each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    missed = 0
    for promise in PROMISES:
        case = next(c for c in ISSUE if c.name == promise.net)
        missed += not show(case, promise, 4 if options.quick else promise.draws)
    raise SystemExit(1 if missed else 0)


def show(case: Case, promise: Promise, draws: int) -> bool:
    """Measure four initialisations of one net; say whether the plan keeps its promise."""
    print(f"{case.name}: E[y²] over the layers, mean of {draws} draws; gradient first / last layer")
    for name, set_up in RIVALS.items():
        seconds, gradients = averages(case, set_up, max(4, draws // 4))
        print(f"  {name:16}{min(seconds):10.2g} … {max(seconds):<10.2g}{gradients[0] / gradients[-1]:10.2g}")
    model = case.model()
    rows = check(model, case.shape, plan(model, case.shape), draws=draws).rows
    seconds = [row.measured for row in rows]
    inside = sum(promise.low <= s <= promise.high for s in seconds) / len(seconds)
    kept = inside >= promise.share
    first, last = rows[0].gradient_measured or 0.0, rows[-1].gradient_measured or 1.0
    print(f"  {'stepzero plan':16}{min(seconds):10.2g} … {max(seconds):<10.2g}{first / last:10.2g}")
    print(
        f"  {inside:.0%} of {len(seconds)} layers within {promise.low} … {promise.high}: "
        f"{'kept' if kept else 'MISSED'} (promised {promise.share:.0%})\n",
        flush=True,
    )
    return kept


def averages(case: Case, set_up: Callable[[nn.Module], None], draws: int) -> tuple[list[float], list[float]]:
    """Return the mean measured second moments, forward and backward, of a model that a function initialises."""
    total: list[list[float]] = []
    back: list[list[float]] = []
    for seed in range(draws):
        torch.manual_seed(seed)
        model = case.model()
        model.apply(set_up)
        rows = check(model, case.shape, seed=seed).rows
        total.append([row.measured for row in rows])
        back.append([row.gradient_measured or 0.0 for row in rows])
    return [sum(c) / draws for c in zip(*total, strict=True)], [sum(c) / draws for c in zip(*back, strict=True)]


def default(module: nn.Module) -> None:
    """Leave what the constructor drew."""


def kaiming(mode: str) -> Callable[[nn.Module], None]:
    """Return torch's Kaiming normal for ReLU, with zero biases."""

    def set_up(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    return set_up


RIVALS = {"torch default": default, "kaiming fan_in": kaiming("fan_in"), "kaiming fan_out": kaiming("fan_out")}

if __name__ == "__main__":
    main()
