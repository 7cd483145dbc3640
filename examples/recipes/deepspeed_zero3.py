"""DeepSpeed ZeRO-3: apply the plan to gathered parameters; whatever the number of processes, the digests are the same.

DS_BUILD_OPS=0 pip install deepspeed
DS_ACCELERATOR=cpu torchrun --nproc-per-node 2 examples/recipes/deepspeed_zero3.py

Without a GPU, DeepSpeed compiles an operator of its own at the first start, which takes a minute or two.
"""

import hashlib

import deepspeed
import torch
import torch.distributed as dist
from torch import nn

import stepzero as sz
from stepzero import filling

CONFIG = {
    "train_micro_batch_size_per_gpu": 1,
    "zero_optimization": {"stage": 3},
    "optimizer": {"type": "Adam", "params": {"torch_adam": True}},
}


def build() -> nn.Sequential:
    """Return a small perceptron."""
    return nn.Sequential(nn.Linear(64, 250), nn.ReLU(), nn.Linear(250, 10))


def main() -> None:
    """Partition, apply, print a digest of each parameter, train a step."""
    deepspeed.init_distributed(dist_backend="gloo")
    with torch.device("meta"):
        shadow = build()
    plan = sz.plan(shadow, (1, 64))
    with deepspeed.zero.Init(config_dict_or_path=CONFIG):
        model = build()
    for name, parameter in model.named_parameters():  # one at a time, so that no rank ever holds the whole model
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            filling.apply({name: plan[name]}, model, seed=0)
    for name, parameter in model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter]):
            if dist.get_rank() == 0:
                print(f"{name:10} {hashlib.sha256(parameter.detach().numpy().tobytes()).hexdigest()[:16]}")
    engine, *_ = deepspeed.initialize(model=model, config=CONFIG, model_parameters=model.parameters())
    engine.backward(engine(torch.randn(1, 64)).sum())
    engine.step()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
