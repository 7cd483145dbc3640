"""What `stepzero.init` costs on tensors, beside torch.nn.init; and how long a first `stepzero.gain` takes.

    python benchmarks/init_speed.py [--rounds 15]

Both are timed in turns, round after round, in CPU time; the best round of each counts.
"""

import argparse
import resource
import subprocess
import sys
import time

import torch
from torch.nn import init as theirs

from stepzero import init as ours

CALLS = {
    "kaiming_uniform_": lambda module, t: module.kaiming_uniform_(t),
    "kaiming_normal_": lambda module, t: module.kaiming_normal_(t, mode="fan_out", nonlinearity="relu"),
    "xavier_uniform_": lambda module, t: module.xavier_uniform_(t),
    "normal_": lambda module, t: module.normal_(t, std=0.02),
    "trunc_normal_": lambda module, t: module.trunc_normal_(t, std=0.02),
    "orthogonal_": lambda module, t: module.orthogonal_(t),
    "zeros_": lambda module, t: module.zeros_(t),
}
SIZES = {(64, 64): 1000, (256, 128, 3, 3): 6}


def seconds(call, module, tensor, repeat):
    """Return seconds of CPU time for one call."""
    start = time.process_time()
    for _ in range(repeat):
        call(module, tensor)
    return (time.process_time() - start) / repeat


def startup(code, rounds):
    """Return the least CPU time of a fresh process that runs this code."""
    best = float("inf")
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def main():
    """Print both tables."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=15)
    rounds = arguments.parse_args().rounds
    torch.set_num_threads(1)
    print(f"{'function':18}{'shape':>18}{'torch µs':>12}{'stepzero µs':>14}{'ratio':>8}")
    for name, call in CALLS.items():
        for shape, repeat in SIZES.items():
            tensor = torch.empty(shape)
            best = [float("inf"), float("inf")]
            for _ in range(rounds):
                for which, module in enumerate((theirs, ours)):
                    best[which] = min(best[which], seconds(call, module, tensor, repeat))
            print(
                f"{name:18}{'×'.join(map(str, shape)):>18}{best[0] * 1e6:12.1f}{best[1] * 1e6:14.1f}{best[1] / best[0]:8.3f}"
            )
    for code in ("pass", "import numpy", "import stepzero; stepzero.gain('gelu')"):
        print(f"{code:45}{startup(code, rounds):.3f} s of CPU time")


if __name__ == "__main__":
    main()
