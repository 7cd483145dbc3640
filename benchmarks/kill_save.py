"""Kill `save` at random moments: only whole files may stand, and a rerun must finish with the same hashes.

python benchmarks/kill_save.py [--kills 50]
"""

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import load_file

from stepzero import filling
from stepzero.laws import Law, Normal


@dataclass(frozen=True)
class Entry:
    """What `save` reads of a plan."""

    shape: tuple[int, ...]
    dtype: str
    law: Law


PLAN = {f"layers.{i}.weight": Entry((1000, 500), "float32", Normal(0.02)) for i in range(30)}


def save(folder: Path | str) -> filling.Manifest:
    """Write the plan in fifteen shards of 4 MB."""
    return filling.save(PLAN, folder, 0, max_shard_size="4MB", threads=1)


def main() -> None:
    """Kill, look, rerun; print what was found."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--kills", type=int, default=50)
    arguments.add_argument("--write", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.write:
        print("ready", flush=True)
        save(options.write)
        return
    rng, kept, finished = random.Random(0), 0, 0
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        whole = save(Path(place) / "whole")
        length = time.perf_counter() - start
        hashes = {entry.name: entry.sha256 for entry in whole.tensors}
        for kill in range(options.kills):
            folder = Path(place) / f"out{kill}"
            process = subprocess.Popen([sys.executable, __file__, "--write", folder], stdout=subprocess.PIPE)
            process.stdout.readline()
            time.sleep(rng.uniform(0, length))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            for path in folder.glob("*.safetensors"):
                kept += 1
                for name, values in load_file(path).items():
                    assert hashlib.sha256(values.tobytes()).hexdigest() == hashes[name], f"{path}: {name} is not whole"
            if (folder / "stepzero.json").exists():
                finished += 1
                continue
            assert save(folder) == whole, f"kill {kill}: the rerun differs"
    print(
        f"{options.kills} kills within {length:.2f} s: {kept} whole files stood, 0 others; {finished} had finished; every rerun equal."
    )


if __name__ == "__main__":
    main()
