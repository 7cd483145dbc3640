"""torchtitan's contract: a trainer that shards on meta, allocates, and calls `init_weights`, keeps its code; the model asks the plan.

torchrun --nproc-per-node 4 examples/init_weights.py    # or 1, 2, 3 …: the same digests
"""

import hashlib

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import stepzero as sz


class Rotated(nn.Module):
    """A layer with a buffer that only its own code can compute, as rotary frequencies are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.register_buffer("angles", torch.empty(width), persistent=False)

    def init_weights(self) -> None:
        """Compute the buffer; the parameters are the plan's."""
        self.angles.copy_(1e-4 ** torch.linspace(0, 1, len(self.angles)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rotate a little."""
        return self.linear(x) * self.angles.cos()


class Model(nn.Module):
    """A model whose `init_weights` draws the plan that was made while it was on meta and whole."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Rotated(48) for _ in range(3)])
        self.head = nn.Linear(48, 10)
        self.plan: sz.Plan | None = None

    def init_weights(self) -> None:
        """Write every parameter that this rank holds, and every buffer."""
        for layer in self.layers:
            layer.init_weights()
        self.plan.apply_(self, seed=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores."""
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


def main() -> None:
    """Do what the trainer does; print a digest of each parameter."""
    dist.init_process_group("gloo")
    with torch.device("meta"):
        model = Model()
    model.plan = sz.plan(model, (1, 48))  # the one line that is new
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in (*model.layers, model):
        fully_shard(layer, mesh=mesh)
    model.to_empty(device="cpu")
    model.init_weights()
    model(torch.randn(2, 48)).sum().backward()
    for name, shard in model.named_parameters():
        whole = shard.full_tensor()
        if dist.get_rank() == 0:
            print(f"{name:22} {hashlib.sha256(whole.detach().numpy().tobytes()).hexdigest()[:16]}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
