"""One rank: write shards by `init`, and hold the gathered tensors against what one process draws."""

import sys

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_module, distribute_tensor

from stepzero import init, laws
from stepzero.errors import ApplyError

SHAPE = (9, 6, 3)


def check(mesh):
    for place in (Shard(0), Shard(1), Replicate()):
        weight = distribute_tensor(torch.zeros(SHAPE), mesh, [place])
        with pytest.raises(ApplyError, match="Give seed= and name="):
            init.normal_(weight)
        assert init.kaiming_normal_(weight, seed=3, name="conv.weight") is weight
        drawn = weight.full_tensor().numpy()
        np.testing.assert_array_equal(drawn, laws.kaiming_normal(SHAPE, seed=3, name="conv.weight"))
        handed_on = init.dirac_(distribute_tensor(torch.zeros(SHAPE), mesh, [place])).full_tensor()
        assert torch.equal(handed_on, nn.init.dirac_(torch.zeros(SHAPE)))  # torch's own writes nothing here
        assert (init.ones_(weight).full_tensor() == 1).all()
    layer = distribute_module(nn.Linear(6, 10), mesh)
    init.xavier_uniform_(layer, seed=1, name="head")
    expected = laws.xavier_uniform((10, 6), seed=1, name="head.weight")
    np.testing.assert_array_equal(layer.weight.full_tensor().detach().numpy(), expected)


def main():
    rank, ranks, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    check(init_device_mesh("cpu", (ranks,)))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
