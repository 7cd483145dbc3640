"""How fast values are made, beside torch and JAX, in one run: whole tensors, one thread and two.

    python benchmarks/fill.py [--elements 64] [--rounds 5] [--json FILE]

All rows are timed in turns, round after round, and the best of each counts, so that a busy machine slows them alike. Ratios are torch's
time over ours, one thread each, on warm memory for both. Two figures bound what can be reached. `fill_` writes and computes nothing; ours
may beat it, since large arrays are written past the caches. Philox alone, in the first-level cache, is what any of our rows costs at least;
the column `cached` is a row on an array that stays in the second-level cache.

Where a ratio falls short: a truncated normal is a normal, one product for its level, and a clamp where a level can reach it, so it cannot
be faster than the normal above it. On the shared two-core machine where this was last run it took 2.0 ns beside 1.65 for the normal and 0.92
for Philox alone, and torch 46 to 87 ns in different runs: ratios from 21 to 37, where 40 were asked.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch

from stepzero import streams
from stepzero.laws import Law, Normal, TruncatedNormal, Uniform
from stepzero.streams import _numba as kernels

Task = tuple[Callable[[], object], int]  # what to time, and its elements

ROWS = {  # title: (law, format, torch's own, the ratio asked for)
    "uniform float32": (Uniform(-1.0, 1.0), "float32", lambda t: t.uniform_(-1, 1), 5.0),
    "normal float32": (Normal(1.0), "float32", lambda t: t.normal_(), 3.0),
    "normal bfloat16": (Normal(1.0), "bfloat16", lambda t: t.normal_(), 4.0),
    "truncated normal ±2σ": (TruncatedNormal(1.0), "float32", torch.nn.init.trunc_normal_, 40.0),
}
CACHED = 2**18  # elements
SLOW = 16  # a row that takes tens of nanoseconds an element is timed on a sixteenth


def tasks(elements: int, with_jax: bool) -> dict[str, Task]:
    """Return everything to time: title → (function, elements)."""
    found, wide = {}, torch.empty(elements)
    narrow = torch.empty(elements, dtype=torch.bfloat16)
    found["fill_ (ceiling)"] = (lambda: wide.fill_(1.0), elements)
    for title, (law, kind, theirs, _) in ROWS.items():
        tensor = wide if kind == "float32" else narrow
        array = wide.numpy() if kind == "float32" else narrow.view(torch.int16).numpy().view(np.uint16)
        for threads in (1, 2):
            found[f"{title}, {threads}"] = (ours(array, law, kind, threads), elements)
        part = tensor[: elements // SLOW] if "truncated" in title else tensor
        some = array[:CACHED]
        found[f"{title}, cached"] = repeated(ours(some, law, kind, 1), 64), 64 * CACHED
        found[f"{title}, torch"] = (lambda theirs=theirs, part=part: theirs(part), part.numel())
        piece = array[: elements // SLOW]
        found[f"{title}, numpy"] = (ours(piece, law, kind, 1, "numpy"), piece.size)
    found["philox alone"] = philox(), 256 * 4 * kernels.BLOCKS
    if with_jax:
        found["jax.random.normal"] = (jax_normal(elements // SLOW), elements // SLOW)
    return found


def repeated(function: Callable[[], object], times: int) -> Callable[[], object]:
    """Return a call that calls another several times."""
    return lambda: [function() for _ in range(times)]


def philox() -> Callable[[], object]:
    """Return a call that makes 256 batches of words, and nothing of them."""
    blocks, pairs = np.arange(kernels.BLOCKS, dtype=np.uint64), np.empty(2 * kernels.BLOCKS, np.uint64)
    words = [np.uint64(word) for word in streams.key(0, "weight")]
    return repeated(lambda: kernels._philox(blocks, np.uint64(0), *words, pairs), 256)


def ours(array: np.ndarray, law: Law, kind: str, threads: int, engine: str = "numba") -> Callable[[], object]:
    """Return a call that fills an array."""
    return lambda: streams.fill(array, law, 0, "weight", dtype=kind, threads=threads, engine=engine)


def jax_normal(elements: int) -> Callable[[], object]:
    """Return a call that draws with JAX."""
    import jax

    draw = jax.jit(lambda key: jax.random.normal(key, (elements,)))
    return lambda: draw(jax.random.key(0)).block_until_ready()


def timed(todo: dict[str, Task], rounds: int) -> dict[str, float]:
    """Return nanoseconds an element: the best of several turns of each."""
    best = {}
    for function, _ in todo.values():
        function()  # compile, and touch every page
    for _ in range(rounds):
        for title, (function, elements) in todo.items():
            start = time.perf_counter()
            function()
            best[title] = min(best.get(title, np.inf), (time.perf_counter() - start) / elements * 1e9)
    return best


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--elements", type=int, default=64, help="millions")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--no-jax", action="store_true")
    arguments.add_argument("--json")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    best = timed(tasks(options.elements * 2**20, not options.no_jax), options.rounds)
    print(
        f"{'ns per element':24}{'numpy':>8}{'cached':>8}{'1 thread':>10}{'2 threads':>10}{'torch':>8}{'ratio':>8}{'asked':>7}{'2 over 1':>10}"
    )
    for title, (*_, asked) in ROWS.items():
        numpy, cached, one, two, theirs = (best[f"{title}, {who}"] for who in ("numpy", "cached", 1, 2, "torch"))
        print(
            f"{title:24}{numpy:8.2f}{cached:8.2f}{one:10.2f}{two:10.2f}{theirs:8.2f}{theirs / one:8.1f}{asked:7.0f}{one / two:10.2f}"
        )
    for title in ("fill_ (ceiling)", "philox alone", "jax.random.normal"):
        if title in best:
            print(f"{title:24}{best[title]:34.2f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(best, file, indent=1)


if __name__ == "__main__":
    main()
