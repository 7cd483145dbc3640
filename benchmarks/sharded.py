"""Hold shards against the single process: real gloo processes for world sizes 1, 2, 3, 4, 6 and 8.

    python benchmarks/sharded.py [--cases 400] [--worlds 1 2 3 4 8]

Every rank draws the same list of (mesh, placements, shape, law, dtype), cuts the whole tensor by torch's own rules, fills its shard,
and compares bits. Worlds of an even size of 4 or more then materialise FSDP2, HSDP, offloaded, tensor-parallel and FSDP-over-TP models.
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PLACE = Path(__file__).parents[1] / "tests" / "filling" / "test_sharded.py"


def load_runner() -> Callable[[int, int, Path], list[dict[str, object]]]:
    """Return the function that starts a world, from the test that runs the smaller one."""
    spec = importlib.util.spec_from_file_location("test_sharded", PLACE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.run_world


def main() -> None:
    """Print one line for each world size."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--cases", type=int, default=400)
    arguments.add_argument("--worlds", type=int, nargs="+", default=[1, 2, 3, 4, 8])
    options = arguments.parse_args()
    run_world = load_runner()
    print(f"{'world':>5} {'cases':>6} {'failed':>7} {'seconds':>8}")
    for world in options.worlds:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            reports = run_world(world, options.cases, Path(folder) / "store")
        failed = sorted({failure for report in reports for failure in report["failures"]})
        print(
            f"{world:5} {options.cases:6} {len(failed):7} {time.perf_counter() - start:8.1f}", *failed[:3], flush=True
        )
        if failed:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
