"""Lightning: build on meta, shard and materialise in `configure_model`; one process or two, the digests are the same.

pip install lightning
python examples/recipes/lightning_fsdp2.py        # two processes and FSDP2, on the CPU
python examples/recipes/lightning_fsdp2.py one    # one process, not sharded
"""

import hashlib
import sys

import lightning
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset

import stepzero as sz


def build() -> nn.Sequential:
    """Return a small perceptron."""
    return nn.Sequential(nn.Linear(64, 250), nn.ReLU(), nn.Linear(250, 10))


class Net(lightning.LightningModule):
    """A module whose weights exist only once they are sharded."""

    def __init__(self) -> None:
        super().__init__()
        self.net: nn.Sequential | None = None

    def configure_model(self) -> None:
        """Lightning calls this on every rank, and more than once."""
        if self.net is not None:
            return
        with torch.device("meta"):
            net = build()
        plan = sz.plan(net, (1, 64))  # before sharding: no weight is needed, and every rank makes the same plan
        if (mesh := self.device_mesh) is not None:
            for layer in (net[0], net[2], net):
                fully_shard(layer, mesh=mesh["data_parallel"])
        sz.materialize_(net, plan, seed=0)
        self.net = net

    def on_fit_start(self) -> None:
        """Print a digest of each parameter."""
        for name, parameter in self.net.named_parameters():
            whole = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
            if self.global_rank == 0:
                print(f"{name:10} {hashlib.sha256(whole.detach().numpy().tobytes()).hexdigest()[:16]}")

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        """Return some loss."""
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return any optimiser."""
        return torch.optim.SGD(self.parameters(), 0.01)


def main() -> None:
    """Train two steps."""
    one = "one" in sys.argv[1:]
    strategy = "auto" if one else ModelParallelStrategy(2, tensor_parallel_size=1, process_group_backend="gloo")
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1 if one else 2, strategy=strategy, max_steps=2,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(Net(), DataLoader(TensorDataset(torch.randn(8, 64))))


if __name__ == "__main__":
    main()
