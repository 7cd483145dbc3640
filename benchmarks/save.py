"""How fast a plan streams to disk beside `normal_` and `save_file`, and how much memory it takes.

    python benchmarks/save.py [--parameters 0.3] [--shard 1GB] [--skip-torch]     # billions; 7 is the full size: 14 GB of disk

The plan is that of a Llama-like model in bfloat16. Each side runs in a process of its own, so that its peak memory is its own.

What bounds it: every parameter is drawn, hashed and written, and on two cores the three share them. On the shared machine where this was
last run they took 2.7, 1.8 and 0.95 ns of CPU for each parameter (`normal_` alone: 9 ns on one core), so 2.7 ns of wall time at
best, and SHA-256 alone 1.8 ns on any number of cores. Measured there: 3.8 ns into memory and 4.1 onto the disk for 2 GB (10.0 and
11.2 for torch: ratios of 2.7, where 5 were asked), 13.4 GB onto the disk in 29 s; 363 MB of peak memory, whatever the size.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from stepzero import filling
from stepzero.laws import Law, Normal

WIDTH, INNER, VOCABULARY = 4096, 11008, 32000
BLOCK = {"q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "o": (WIDTH, WIDTH)} | {
    "gate": (INNER, WIDTH), "up": (INNER, WIDTH), "down": (WIDTH, INNER),
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What `save` reads of a plan."""

    shape: tuple[int, ...]
    dtype: str
    law: Law


def shapes(billions: float) -> dict[str, tuple[int, int]]:
    """Return as many matrices of the model as make up so many parameters."""
    found: dict[str, tuple[int, int]] = {}
    left, layer = billions * 1e9, 0
    while left > 0:
        for name, shape in BLOCK.items() if layer else [("embed", (VOCABULARY, WIDTH))]:
            if left > 0:
                found[f"layers.{layer}.{name}.weight"] = shape
                left -= shape[0] * shape[1]
        layer += 1
    return found


def run_ours(options: argparse.Namespace, folder: Path) -> None:
    """Stream the plan."""
    plan = {name: Entry(shape, "bfloat16", Normal(0.02)) for name, shape in shapes(options.parameters).items()}
    filling.save(plan, folder / "out", 0, max_shard_size=options.shard)


def run_torchs(options: argparse.Namespace, folder: Path) -> None:
    """Draw every matrix with `normal_`, then save them and make the file durable."""
    torch.set_num_threads(2)
    tensors = {
        name: torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02)
        for name, shape in shapes(options.parameters).items()
    }
    start = time.perf_counter()
    save_file(tensors, folder / "out.safetensors")
    with (folder / "out.safetensors").open("rb") as file:  # ours is durable when it returns, so this one has to be
        os.fsync(file.fileno())
    print(f"torch: {time.perf_counter() - start:.2f} s of it to save", file=sys.stderr)


def measured(side: str, where: str, options: argparse.Namespace) -> dict[str, float]:
    """Run one side in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--side",
        side,
        "--parameters",
        str(options.parameters),
        "--shard",
        options.shard,
        "--where",
        where,
    ]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Print both sides and their ratio."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--parameters", type=float, default=0.3, help="billions")
    arguments.add_argument("--shard", default="5GB")
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument(
        "--where", nargs="+", default=["/dev/shm", "."], help="folders to write into, one after the other"
    )
    arguments.add_argument("--skip-torch", action="store_true")
    arguments.add_argument("--side", choices=["ours", "torch"], help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.side:
        with tempfile.TemporaryDirectory(dir=options.where[0]) as folder:
            start = time.perf_counter()
            {"ours": run_ours, "torch": run_torchs}[options.side](options, Path(folder))
            seconds = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu = used.ru_utime + used.ru_stime  # with the imports
        print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": used.ru_maxrss / 1024}))
        return
    count = sum(rows * columns for rows, columns in shapes(options.parameters).values())
    print(f"{count / 1e9:.2f} billion parameters, bfloat16, {count * 2 / 1e9:.2f} GB")
    for where in options.where:
        compare(where, count, options)


def compare(where: str, count: int, options: argparse.Namespace) -> None:
    """Time both sides in turns on one folder, and print the best of each."""
    best: dict[str, dict[str, float]] = {}
    for _ in range(options.rounds):
        for side in ["ours"] if options.skip_torch else ["torch", "ours"]:
            found = measured(side, where, options)
            best[side] = min(best.get(side, found), found, key=lambda run: run["seconds"])
    for side, found in best.items():
        print(
            f"{where:10} {side:6} {found['seconds']:7.2f} s, {found['cpu']:7.2f} s of CPU, {found['seconds'] / count * 1e9:6.2f} ns/parameter, "
            f"{count * 2e-9 / found['seconds']:5.2f} GB/s, peak {found['peak_mb']:6.0f} MB",
            flush=True,
        )
    if len(best) == 2:
        print(f"{where:10} ratio {best['torch']['seconds'] / best['ours']['seconds']:5.1f}", flush=True)


if __name__ == "__main__":
    main()
