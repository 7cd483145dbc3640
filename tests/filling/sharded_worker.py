"""One rank of a real process group: shards tensors by torch's own rules, fills them, and compares with the whole tensor.

Run as: python sharded_worker.py RANK WORLD STORE. Prints one line of JSON: how many cases ran, and those that failed.
"""

import copy
import json
import sys

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard

from stepzero import filling, streams
from stepzero.filling._holdings import holdings
from stepzero.laws import Constant, Dirac, Normal, Orthogonal, Sparse, TruncatedNormal, Uniform
from stepzero.network import build
from stepzero.planning import plan as make_plan

MESHES = {1: [(1,)], 2: [(2,)], 3: [(3,)], 4: [(4,), (2, 2)], 6: [(2, 3), (3, 2)], 8: [(8,), (2, 4), (4, 2), (2, 2, 2)]}
SHAPES = [(16, 12), (7, 5), (1, 9), (13,), (5, 4, 3, 3), (8, 6, 3), (3, 2), (0, 4)]
LAWS = [
    Normal(0.02),
    TruncatedNormal(1.0),
    Uniform(-0.1, 0.3),
    Constant(0.5),
    Orthogonal(1.0),
    Normal(1.0, 2.0),
    Sparse(0.4),
    Dirac(),
]
DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.float16]


def fits(law, shape):
    try:
        streams.require_drawable(law, shape, "float32")
    except Exception:
        return False
    return True


def grid(count, largest, seed=0):
    """Yield the same pseudo-random cases on every rank."""
    rng = np.random.default_rng(seed)
    made = 0
    while made < count:
        world = int(rng.choice([size for size in MESHES if size <= largest]))
        mesh = MESHES[world][int(rng.integers(len(MESHES[world])))]
        shape, law = SHAPES[int(rng.integers(len(SHAPES)))], LAWS[int(rng.integers(len(LAWS)))]
        if not fits(law, shape):
            continue
        kinds = [Replicate(), *(Shard(axis) for axis in range(len(shape)))]
        kinds += [_StridedShard(axis, split_factor=int(rng.integers(2, 4))) for axis in range(len(shape))]
        placements = tuple(kinds[int(rng.integers(len(kinds)))] for _ in mesh)
        made += 1
        yield mesh, placements, shape, law, DTYPES[int(rng.integers(len(DTYPES)))]


def local_by_torch(full, placements, mesh):
    """Cut a whole tensor as torch's own placements do, from the first mesh axis to the last."""
    for axis, placement in enumerate(placements):
        if not isinstance(placement, Replicate):
            parts = placement._split_tensor(full, mesh.size(axis), with_padding=False)[0]
            full = parts[mesh.get_coordinate()[axis]]
    return full


def mesh_of(shape, cache={}):  # noqa: B006
    if shape not in cache:
        cache[shape] = DeviceMesh("cpu", torch.arange(int(np.prod(shape))).reshape(shape))
    return cache[shape]


def bits(tensor):
    return tensor.detach().contiguous().view(torch.uint8) if tensor.numel() else torch.empty(0)


def check_grid(count):
    failures = []
    for case in grid(count, dist.get_world_size()):
        mesh_shape, placements, shape, law, dtype = case
        mesh = mesh_of(mesh_shape)
        if mesh.get_coordinate() is None:
            continue
        whole = torch.empty(shape, dtype=dtype)
        piece = holdings("whole", whole)[0]
        streams.fill(filling._arrays.as_array(piece.tensor), law, 7, "layer.weight", dtype=str(dtype)[6:])
        expected = local_by_torch(whole, placements, mesh)
        local = torch.full_like(expected, float("nan"))
        tensor = DTensor.from_local(local, mesh, placements, run_check=False, shape=whole.shape, stride=whole.stride())
        model = nn.Module()
        model.layer = nn.Module()
        model.layer.weight = nn.Parameter(tensor)
        filling.apply({"layer.weight": Entry(shape, "float32", law)}, model, 7)
        if not torch.equal(bits(model.layer.weight.to_local()), bits(expected)):
            failures.append(str(case))
    return failures


class Entry:
    def __init__(self, shape, dtype, law):
        self.shape, self.dtype, self.law = tuple(shape), dtype, law


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=9)
        self.first, self.second = nn.Linear(8, 13), nn.Linear(13, 8)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight


def plan():
    return {
        name: Entry(tensor.shape, "float32", Normal(0.5) if tensor.ndim > 1 else Constant(0.25))
        for name, tensor in Net().named_parameters()
    }


def wrap_fsdp(model, mesh, **options):
    for layer in (model.first, model.second):
        fully_shard(layer, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def wrap_2d(model, mesh):
    parallelize_module(model, mesh["tp"], {"first": ColwiseParallel(), "second": RowwiseParallel()})
    return wrap_fsdp(model, mesh["dp"])


def check_wrapped():
    """FSDP2, HSDP, tensor parallelism and both, from meta: gathered, they are the plain model."""
    reference, failures = Net(), []
    filling.apply(plan(), reference, 5)
    world = dist.get_world_size()
    flat = DeviceMesh("cpu", torch.arange(world), mesh_dim_names=("dp",))
    two = DeviceMesh("cpu", torch.arange(world).reshape(2, world // 2), mesh_dim_names=("dp", "tp"))
    wraps = {
        "fsdp": lambda model: wrap_fsdp(model, flat),
        "hsdp": lambda model: wrap_fsdp(model, two),
        "offload": lambda model: wrap_fsdp(model, flat, offload_policy=CPUOffloadPolicy(pin_memory=False)),
        "tp": lambda model: parallelize_module(
            model, two["tp"], {"first": ColwiseParallel(), "second": RowwiseParallel()}
        ),
        "fsdp over tp": lambda model: wrap_2d(model, two),
    }
    for title, wrap in wraps.items():
        with torch.device("meta"):
            model = Net()
        model = wrap(model)
        filling.materialize_(model, plan(), 5)
        for name, tensor in model.named_parameters():
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if not torch.equal(whole, dict(reference.named_parameters())[name]):
                failures.append(f"{title}: {name} {getattr(tensor, 'placements', '')}")
        if title != "tp":
            out = model.first(torch.ones(2, 8)) if title == "fsdp" else None
            if out is not None and not torch.allclose(out, reference.first(torch.ones(2, 8))):
                failures.append(f"{title}: forward")
        if model.head.weight is not model.embed.weight:
            failures.append(f"{title}: tie")
    return failures


class Author(nn.Module):
    """An init of parts, copies, matrices, numbers and drawn buffers."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=0)
        self.qkv = nn.Linear(8, 24)
        for third in self.qkv.weight.data.chunk(3):
            nn.init.orthogonal_(third)
        self.position = nn.Parameter(torch.outer(torch.arange(7.0), torch.arange(8.0)).sin())
        self.target = copy.deepcopy(self.qkv)
        self.register_buffer("directions", torch.randn(8, 5))


OWN = {
    "parts": Author,
    "transformer": lambda: nn.Transformer(8, 2, 2, 2, 12, batch_first=True),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10), nn.ConvTranspose2d(10, 6, 3, groups=2), nn.LSTM(6, 5)
    ),
}


def check_own():
    """The author's own init, recorded and sharded, is that of one process."""
    failures = []
    for title, factory in OWN.items():
        alone, sharded = build(factory), build(factory)
        filling.materialize_(alone, make_plan(alone, goal="own"), 5)
        for child in sharded.children():
            fully_shard(child)
        fully_shard(sharded)
        filling.materialize_(sharded, make_plan(sharded, goal="own"), 5)
        wanted = alone.state_dict(keep_vars=True)
        for name, tensor in sharded.state_dict(keep_vars=True).items():
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if not torch.equal(whole, wanted[name]):
                failures.append(f"own {title}: {name}")
    return failures


def main():
    rank, world, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    cases = int(sys.argv[4])
    failures = check_grid(cases) + (check_wrapped() if world >= 4 and world % 2 == 0 else []) + check_own()
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.write(json.dumps({"rank": rank, "cases": cases, "failures": failures}) + "\n")


if __name__ == "__main__":
    main()
