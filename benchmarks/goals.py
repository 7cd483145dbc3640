"""Goals beside torch's default and Kaiming's two modes: how far signals leave 1, and how uneven gradients are.

python benchmarks/goals.py                  # predicted, from the laws themselves: seconds
python benchmarks/goals.py --draws 16       # and measured: mean second moments over 16 draws

signal: the largest |ln E[y²]| over all weight layers. gradient: |ln(E[g²] of the first layer / of the last)|. A goal loses where
either exceeds the best of the three rivals by more than 1 %.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import torch
from nets import HELD_OUT, ISSUE, Case
from torch import nn

from stepzero import Plan, check, plan
from stepzero.laws import Law, Normal, Uniform

NETS = (
    "VGG-16", "VGG-11", "vgg13", "U-Net, no norm", "DCGAN, no norm", "30 plain convolutions", "alexnet", "squeezenet1_1",
    "MONAI 3-D UNet, no norm", "resnet18", "resnet50", "vgg11_bn", "preactivation resnet", "mobilenet_v2", "densenet121",
)  # fmt: skip
GOALS = ("forward", "backward", "balanced")
Laws = list[tuple[str, Law]]


def main() -> None:
    """Print a block for each net, and what `balanced` loses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=0, help="measure each plan on so many draws as well")
    parser.add_argument("--net", action="append", help="only this net; repeatable")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = [case for case in ISSUE + HELD_OUT if case.name in (options.net or NETS)]
    lost = [case.name for case in cases if not show(case, options.draws)]
    print(f"balanced loses on: {', '.join(lost) or 'none'}")
    raise SystemExit(bool(lost))


def show(case: Case, draws: int) -> bool:
    """Print both numbers for each rival and goal; say whether `balanced` loses to no rival."""
    print(f"{case.name}: signal, gradient{' (predicted | measured)' if draws else ''}", flush=True)
    rivals = [numbers(case, name, draws, overrides=laws) for name, laws in RIVALS.items()]
    goals = [numbers(case, goal, draws, goal=goal) for goal in GOALS]
    wins = []
    for which in range(len(rivals[0])):
        best = [min(pair[which][k] for pair in rivals) for k in (0, 1)]
        wins.append(all(mine <= its * 1.01 + 1e-9 for mine, its in zip(goals[-1][which], best, strict=True)))
    print(f"  balanced {'loses' if not all(wins) else 'does not lose'}\n", flush=True)
    return all(wins)


def numbers(
    case: Case, name: str, draws: int, *, goal: str = "forward", overrides: Callable[[nn.Module], Laws] | None = None
) -> list[tuple[float, float]]:
    """Return (signal, gradient) as predicted and, with draws, as measured; print them."""
    torch.manual_seed(0)
    model = case.model()
    made = plan(model, case.shape, goal=goal, overrides=overrides(model) if overrides else None)
    found = [predicted(made)]
    if draws:
        found.append(measured(model, case, made, draws))
    told = " | ".join(f"{signal:7.2f} {gradient:7.2f}" for signal, gradient in found)
    note = next((f"  ({n})" for n in made.notes if n.startswith("goal ")), "")
    print(f"  {name:16}{told}{note}", flush=True)
    return found


def predicted(made: Plan) -> tuple[float, float]:
    """Return both numbers of a plan."""
    rows = [(e.second_moment, e.gradient_second_moment) for e in made.values() if e.fan_in and e.gradient_second_moment]
    return summary([q for q, _ in rows if q is not None], [g for _, g in rows if g is not None])


def measured(model: nn.Module, case: Case, made: Plan, draws: int) -> tuple[float, float]:
    """Return both numbers of real runs: of mean second moments over the draws."""
    rows = check(model, case.shape, made, draws=draws).rows
    return summary([row.measured for row in rows], [row.gradient_measured or math.nan for row in rows])


def summary(seconds: list[float], gradients: list[float]) -> tuple[float, float]:
    """Return the largest |ln E[y²]| and |ln of first over last gradient|."""
    return max(abs(math.log(q)) for q in seconds), abs(math.log(gradients[0] / gradients[-1]))


def weights(model: nn.Module) -> list[tuple[str, nn.Module, int, int]]:
    """Return the layers that the rivals draw, with the fans that torch gives their weights."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return [
        (name, m, *nn.init._calculate_fan_in_and_fan_out(m.weight))
        for name, m in model.named_modules()
        if isinstance(m, kinds)
    ]


def kaiming(mode: int) -> Callable[[nn.Module], Laws]:
    """Return torch's Kaiming normal for ReLU, as laws; biases are zero in every plan."""
    return lambda model: [(f"{name}.weight", Normal((2 / fans[mode]) ** 0.5)) for name, _, *fans in weights(model)]


def default(model: nn.Module) -> Laws:
    """Return what torch's constructors draw, as laws."""
    found: Laws = []
    for name, layer, fan_in, _ in weights(model):
        bound = fan_in**-0.5
        found.append((f"{name}.weight", Uniform(-bound, bound)))
        if layer.bias is not None:
            found.append((f"{name}.bias", Uniform(-bound, bound)))
    return found


RIVALS: dict[str, Callable[[nn.Module], Laws]] = {
    "torch default": default,
    "kaiming fan_in": kaiming(0),
    "kaiming fan_out": kaiming(1),
}

if __name__ == "__main__":
    main()
