"""Time and memory of a plan, in a fresh process for each model, on one core and after imports.

python benchmarks/speed.py
python benchmarks/speed.py torchvision:resnet50 1x3x224x224
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
import warnings

MODELS = (
    ("torchvision:resnet50", "1x3x224x224"),
    ("torchvision:densenet121", "1x3x224x224"),
    ("torchvision:vgg16", "1x3x224x224"),
    ("torchvision:efficientnet_b0", "1x3x224x224"),
    ("torchvision:convnext_tiny", "1x3x224x224"),
    ("torchvision:regnet_y_128gf", "1x3x224x224"),
    ("timm:vit_base_patch16_224", "1x3x224x224"),
    ("timm:swin_tiny_patch4_window7_224", "1x3x224x224"),
    ("benchmarks/llama.py:llama_7b", "1x512:int64"),
)


def main() -> None:
    """Print a line for each model."""
    chosen = [tuple(sys.argv[1:3])] if len(sys.argv) == 3 else MODELS
    print(f"{'model':32}{'parameters':>12}{'cpu s':>8}{'wall s':>8}{'before MB':>11}{'peak MB':>9}")
    spawn = multiprocessing.get_context("spawn")
    for model, shape in chosen:
        process = spawn.Process(target=measure, args=(model, shape))
        process.start()
        process.join()


def measure(name: str, shape: str) -> None:
    """Plan one model on meta, and print what it took."""
    import torch

    from stepzero.network import load_model
    from stepzero.planning import plan

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_model(name, {}, device="meta").train()
    plan(torch.nn.Sequential(torch.nn.Linear(2, 2)), (1, 2))  # what is imported on first use
    before = peak()
    wall, cpu = time.perf_counter(), time.process_time()
    plan(model, shape)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    count = sum(p.numel() for p in model.parameters())
    print(f"{name:32}{count / 1e6:10.1f} M{cpu:8.2f}{wall:8.2f}{before:11.0f}{peak():9.0f}", flush=True)


def peak() -> float:
    """Return the largest resident size so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
