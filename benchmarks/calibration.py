"""Is `check` calibrated? Correct small nets must pass at the stated rate; a layer scaled by 1.25 must be found.

    python benchmarks/calibration.py                 # 500 correct nets and 100 wrong ones, resumed where it stopped
    python benchmarks/calibration.py --seconds 120   # stop after two minutes
    python benchmarks/calibration.py --table         # the rates of what has run
    python benchmarks/calibration.py --nets 40 --fresh   # a quick look, kept nowhere

Every net is drawn at random: linear or convolutional, width, depth, activation, normalisation or none, kernel, stride, padding,
groups, pooling, residual joins, biases. It is planned, drawn with its own seed, and checked once on a batch of N(0, 1).
"""

from __future__ import annotations

import argparse
import json
import random
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from scipy.stats import beta, norm
from torch import nn

import stepzero as sz

RESULTS = Path(__file__).parent / "results" / "calibration.jsonl"
RATES = (0.01, 0.05, 0.2)
ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.ELU, nn.SELU, nn.Hardswish, nn.Mish, nn.Softplus, lambda: nn.LeakyReLU(0.2),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One net: the largest |z| of either test, and what was found."""

    net: int
    wrong: bool
    kind: str
    ops: int
    worst_local: float
    worst_whole: float
    where: str  # the first row that fails at a rate of 0.01
    scaled: str = ""  # the layer that was scaled


class Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        out: torch.Tensor = x + self.branch(x)
        return out


def convolutional(pick: random.Random, width: int, depth: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a stack of 1-d or 2-d convolutions, and the shape of one input."""
    planes = pick.choice((1, 2))
    conv, pool, mean = ((nn.Conv1d, nn.MaxPool1d, nn.AvgPool1d), (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d))[planes - 1]
    batch_norm = (nn.BatchNorm1d, nn.BatchNorm2d)[planes - 1]
    size, kernel, groups = pick.choice((6, 8, 12)), pick.choice((1, 3, 5)), pick.choice((1, 1, 1, 2, 4))
    mode, act, bias = pick.choice(("zeros", "circular", "reflect")), pick.choice(ACTIVATIONS), pick.random() < 0.5
    norm = pick.choice((None, None, batch_norm, lambda n: nn.GroupNorm(4, n)))
    layers: list[nn.Module] = [conv(3, width, kernel, padding=kernel // 2, padding_mode=mode, bias=bias)]
    for _ in range(depth - 1):
        layer = [
            conv(width, width, kernel, padding=kernel // 2, padding_mode=mode, groups=groups, bias=bias),
            *([] if norm is None else [norm(width)]),
            act(),
        ]
        layers += [Residual(nn.Sequential(*layer))] if pick.random() < 0.2 else layer
    if pick.random() < 0.3:
        layers += [pick.choice((pool, mean))(2), conv(width, width, 1)]
    return nn.Sequential(*layers), (3, *(size,) * planes)


def linear(pick: random.Random, width: int, depth: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a stack of linear layers, and the shape of one input."""
    act, bias = pick.choice(ACTIVATIONS), pick.random() < 0.5
    norm = pick.choice((None, None, nn.LayerNorm, nn.BatchNorm1d))
    start = pick.choice((8, 32, 100))
    layers: list[nn.Module] = [nn.Linear(start, width, bias=bias)]
    for _ in range(depth - 1):
        layer = [*([] if norm is None else [norm(width)]), act(), nn.Linear(width, width, bias=bias)]
        layers += [Residual(nn.Sequential(*layer))] if pick.random() < 0.2 else layer
    return nn.Sequential(*layers, act(), nn.Linear(width, 10)), (start,)


def draw(number: int, *, wrong: bool) -> tuple[str, nn.Module, torch.Tensor]:
    """Return a net, and a batch for it; the same for the same number."""
    pick = random.Random(2 * number + wrong)
    width = 256 if wrong else pick.choice((8, 16, 32, 64, 128))
    depth = pick.randint(1, 6) if wrong else pick.randint(1, 12)
    kind = linear if pick.random() < 0.5 else convolutional
    net, shape = kind(pick, width, depth)
    batch = pick.choice((1, 2, 8, 32)) if not has_batch_norm(net) else pick.choice((8, 32))
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(number))
    return kind.__name__, net, x


def has_batch_norm(net: nn.Module) -> bool:
    """Say whether a net normalises over its batch."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())


def measure(number: int, *, wrong: bool) -> Row:
    """Plan, draw and check one net, with one of its layers scaled by 1.25 if it is to be wrong."""
    kind, net, x = draw(number, wrong=wrong)
    plan = sz.plan(net, x)
    plan.apply_(net, seed=number)
    scaled = ""
    if wrong:
        weights = [name for name, p in net.named_parameters() if p.dim() > 1 and p.shape[0] == 256]
        scaled = random.Random(number).choice(weights)
        with torch.no_grad():
            net.get_parameter(scaled).mul_(1.25)
    found = sz.check(net, x, plan, backward=False)
    bad = next((row.name for row in found.rows if not row.ok), "")
    worst_local = max(abs(row.local_z) for row in found.rows)
    worst_whole = max(abs(row.z) for row in found.rows)
    return Row(number, wrong, kind, len(found.rows), worst_local, worst_whole, bad, scaled)


def fails(row: Row, rate: float) -> bool:
    """Say whether a net would fail at this rate: two two-sided tests at each of its weight ops."""
    return max(row.worst_local, row.worst_whole) > norm.isf(rate / (4 * row.ops))


def interval(hits: int, runs: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Clopper & Pearson 1934)."""
    low = float(beta.ppf(0.025, hits, runs - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, runs - hits)) if hits < runs else 1.0
    return low, high


def table(rows: list[Row]) -> str:
    """Return the rates as text."""
    right, wrong = [r for r in rows if not r.wrong], [r for r in rows if r.wrong]
    lines = [f"{len(right)} correct nets, {sum(r.ops for r in right)} weight ops"]
    for rate in RATES:
        for name, some in (
            ("all", right),
            *((k, [r for r in right if r.kind == k]) for k in ("linear", "convolutional")),
        ):
            alarms = sum(fails(r, rate) for r in some)
            low, high = interval(alarms, len(some)) if some else (0.0, 1.0)
            verdict = "within" if low <= rate else "ABOVE"
            share = alarms / max(1, len(some))
            lines.append(
                f"  stated {rate:4.0%}  {name:14} {alarms:4d} alarms = {share:6.2%}  [{low:.2%}, {high:.2%}]  {verdict}"
            )
    found = sum(r.where == r.scaled for r in wrong)
    low, high = interval(found, len(wrong)) if wrong else (0.0, 1.0)
    share = found / max(1, len(wrong))
    lines.append(
        f"{len(wrong)} nets of width 256 with one layer scaled by 1.25: found and named {found} = {share:.1%}  [{low:.1%}, {high:.1%}]"
    )
    return "\n".join(lines)


def stored() -> list[Row]:
    """Return the results so far."""
    if not RESULTS.exists():
        return []
    return [Row(**json.loads(line)) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def todo(nets: int, wrong: int, done: set[tuple[int, bool]]) -> Iterator[tuple[int, bool]]:
    """Yield what is left, right and wrong nets mixed."""
    for number in range(max(nets, wrong)):
        for is_wrong, most in ((False, nets), (True, wrong)):
            if number < most and (number, is_wrong) not in done:
                yield number, is_wrong


def main() -> None:
    """Run what is left, and show the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=500, help="correct nets")
    parser.add_argument("--wrong", type=int, default=100, help="nets with a scaled layer")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--fresh", action="store_true", help="neither read nor keep results")
    parser.add_argument("--table", action="store_true", help="only show what has run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*reflect.*")
    rows = [] if options.fresh else stored()
    start = time.monotonic()
    for number, wrong in () if options.table else todo(options.nets, options.wrong, {(r.net, r.wrong) for r in rows}):
        if time.monotonic() - start > options.seconds:
            break
        rows.append(measure(number, wrong=wrong))
        if not options.fresh:
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(rows[-1])) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
