"""Build a 7-billion-parameter Llama from its configuration with its own init recorded: seconds and memory.

    python benchmarks/build_7b.py [--again]

Promised: under 10 s and 1 GB, the import of transformers left out of the time and counted in the memory; `--again` builds it twice and
compares the recordings.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch

from stepzero import build, plan
from stepzero.network import import_torchvision, recording


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    import_torchvision()
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig()  # 32 layers of 4096: 6.7 billion
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    model = build(lambda: LlamaForCausalLM(config))
    built = time.perf_counter() - start
    own = plan(model, goal="own")
    planned = time.perf_counter() - start - built
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = recording(model)
    assert found is not None
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{parameters / 1e9:.2f} billion parameters, {len(own)} tensors, {len(found.unread())} unread, rung {found.rung}"
    )
    print(
        f"built and recorded in {built:.1f} s, planned in {planned:.1f} s; peak memory {peak / 2**20:.2f} GiB, of which imports {before / 2**20:.2f}"
    )
    if options.again:
        other = recording(build(lambda: LlamaForCausalLM(config)))
        print(f"a second build records the same: {other is not None and other.to_dict() == found.to_dict()}")


if __name__ == "__main__":
    main()
