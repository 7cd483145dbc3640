"""From meta to shards: FSDP2 on a CPU mesh, and the proof that the world size changes no value.

torchrun --nproc-per-node 4 examples/fsdp2.py        # or 1, 2, 3 …: the same digests
"""

import hashlib

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import stepzero as sz


def build() -> nn.Module:
    """Return a small perceptron."""
    return nn.Sequential(nn.Linear(64, 250), nn.ReLU(), nn.Linear(250, 250), nn.ReLU(), nn.Linear(250, 10))


def main() -> None:
    """Shard, materialise, gather, and print a digest of each parameter."""
    dist.init_process_group("gloo")
    with torch.device("meta"):
        model = build()
    plan = sz.plan(model, (1, 64))  # on meta, before sharding: no weight is needed, and every rank makes the same plan
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in (model[0], model[2], model[4]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    receipt = sz.materialize_(model, plan, seed=0)  # each rank its own rows, no communication
    for name, shard in model.named_parameters():
        whole = shard.full_tensor()
        if dist.get_rank() == 0:
            print(f"{name:10} {tuple(shard.to_local().shape)!s:12} of {tuple(whole.shape)!s:12}", end=" ")
            print(hashlib.sha256(whole.detach().numpy().tobytes()).hexdigest()[:16])
    if dist.get_rank() == 0:
        print(f"receipt {receipt.digest[:16]}, world size {dist.get_world_size()}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
