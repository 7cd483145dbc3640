"""Materialise real models by their authors' own init on four ranks with FSDP2, and hold every shard against one process.

    python benchmarks/own_sharded.py [--world 4] [--models timm:vit_tiny_patch16_224 …]

Each rank builds the model on meta with its init recorded, shards every child and the model with `fully_shard`, and materialises the
plan of goal "own"; there is no communication. Each shard is then compared, bit for bit, with the rows that it has of the model of one
process. Exit code 1 if any differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODELS = (
    "torchvision:resnet18", "torchvision:mobilenet_v3_small", "torchvision:shufflenet_v2_x0_5", "torchvision:swin_t",
    "timm:vit_tiny_patch16_224", "timm:convnext_atto", "timm:mixer_s32_224", "timm:levit_128s", "timm:efficientformerv2_s0",
    "torch.nn:Transformer",
)  # fmt: skip


def run(models: tuple[str, ...], world: int) -> list[dict[str, object]]:
    """Start the ranks, and return what each of them reports."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        ranks = [
            subprocess.Popen(
                [sys.executable, __file__, "--rank", str(rank), "--world", str(world), "--store", store, "--models", *models],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for rank in range(world)
        ]  # fmt: skip
        try:
            outputs = [rank.communicate(timeout=550) for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
    for rank, (_, errors) in zip(ranks, outputs, strict=True):
        if rank.returncode:
            raise RuntimeError(errors[-3000:])
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


def work(rank: int, world: int, store: str, models: list[str]) -> None:
    """Be one rank: print one line of JSON."""
    import warnings

    import torch
    import torch.distributed as dist

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    report = {name: compare(name) for name in models}
    dist.barrier()
    dist.destroy_process_group()
    print(json.dumps({"rank": rank, "models": report}))


def compare(name: str) -> dict[str, object]:
    """Return how many tensors a model has, how many are sharded, and which differ from those of one process."""
    import torch
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    from stepzero import materialize_
    from stepzero.filling._holdings import holdings
    from stepzero.network import load_model, parameter_slots
    from stepzero.planning import plan

    alone, sharded = load_model(name, record=True), load_model(name, record=True)
    materialize_(alone, plan(alone, goal="own"), seed=3)
    for child in sharded.children():
        if next(child.parameters(), None) is not None and not isinstance(
            child, (torch.nn.ModuleList, torch.nn.ModuleDict)
        ):
            fully_shard(child)
    fully_shard(sharded)
    own = plan(sharded, goal="own")
    materialize_(sharded, own, seed=3)
    whole, failures, count = alone.state_dict(keep_vars=True), [], 0
    for slot in parameter_slots(sharded).values():
        count += isinstance(slot.tensor, DTensor)
        for held in holdings(slot.name, slot.tensor):
            rows = tuple(slice(axis.start, axis.stop, axis.step) for axis in held.region.axes)
            if not torch.equal(held.tensor, whole[slot.name][rows]):
                failures.append(slot.name)
    for key, buffer in sharded.named_buffers():
        if not torch.equal(buffer, dict(alone.named_buffers())[key]):
            failures.append(key)
    return {"tensors": len(own), "sharded": count, "failures": failures}


def main() -> int:
    """Print one line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=int, default=4)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        work(options.rank, options.world, options.store, options.models)
        return 0
    start, failed = time.perf_counter(), 0
    reports = run(tuple(options.models), options.world)
    print(f"{'model':36} {'tensors':>8} {'sharded':>8} {'differ':>7}")
    for name in options.models:
        rows = [report["models"][name] for report in reports]  # type: ignore[index]
        differ = sorted({failure for row in rows for failure in row["failures"]})
        failed += bool(differ)
        print(f"{name:36} {rows[0]['tensors']:8} {rows[0]['sharded']:8} {len(differ):7}", *differ[:3])
    print(f"{options.world} ranks, {time.perf_counter() - start:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
