"""Closed-form fans against counting taps and against torch's own convolutions, on random geometries.

    python benchmarks/fans.py [--cases 10000] [--seed 0]

Each case draws kernel, stride, dilation, padding and its mode, map size, groups and channels in one to three dimensions. Three
numbers must agree exactly: the closed form, the taps counted one by one, and what torch makes of ones and, backwards, of its
vector–Jacobian product. Exit code 1 if one case differs.
"""

import argparse
import random
import sys
from fractions import Fraction

import numpy as np
import torch
from torch.nn import functional as F

from stepzero.theory import fan_pattern, fans

MODES = ("zeros", "zeros", "reflect", "replicate", "circular")


def geometry(rng):
    """Draw one geometry that has an output."""
    while True:
        dims, transposed = rng.randint(1, 3), rng.random() < 0.4
        kernel = tuple(rng.randint(1, 5) for _ in range(dims))
        told = {
            "stride": tuple(rng.randint(1, 4) for _ in range(dims)),
            "dilation": tuple(rng.randint(1, 3) for _ in range(dims)),
            "padding": tuple(rng.randint(0, 3) for _ in range(dims)),
            "groups": rng.choice((1, 1, 2, 3)),
            "transposed": transposed,
            "padding_mode": "zeros" if transposed else rng.choice(MODES),
            "input_size": tuple(rng.randint(1, 9) for _ in range(dims)),
        }
        if transposed:
            room = [max(s, d) for s, d in zip(told["stride"], told["dilation"], strict=True)]
            told["output_padding"] = tuple(rng.randrange(most) for most in room)
        channels = (told["groups"] * rng.randint(1, 3), rng.randint(1, 3))
        try:
            fans((*channels, *kernel), **told)
        except ValueError:
            continue
        return (*channels, *kernel), told


def by_torch(shape, told):
    """Return the mean of a map of ones under a kernel of ones, and of its vector–Jacobian product."""
    dims, groups = len(shape) - 2, told["groups"]
    inputs = shape[0] if told["transposed"] else shape[1] * groups
    x = torch.ones(1, inputs, *told["input_size"], dtype=torch.float64, requires_grad=True)
    weight = torch.ones(shape, dtype=torch.float64)
    if told["transposed"]:
        op = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
        y = op(x, weight, None, told["stride"], told["padding"], told["output_padding"], groups, told["dilation"])
    else:
        op = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
        sides = [side for pad in told["padding"][::-1] for side in (pad, pad)]
        fill = told["padding_mode"].replace("zeros", "constant")
        y = op(F.pad(x, sides, fill), weight, None, told["stride"], 0, told["dilation"], groups)
    (used,) = torch.autograd.grad(y.sum(), x)
    return [Fraction(int(each.sum().item()), each.numel()) for each in (y, used)]


def main():
    """Run all cases and print the count of those that differ."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--cases", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    rng, wrong = random.Random(options.seed), 0
    for case in range(options.cases):
        shape, told = geometry(rng)
        closed = [float(fan) for fan in fans(shape, **told)]
        pattern = fan_pattern(shape, **told)
        counted = [float(pattern.fan_in.mean()), float(pattern.fan_out.mean())]
        torchs = [float(fan) for fan in by_torch(shape, told)]
        if not (np.allclose(closed, counted, rtol=1e-14) and np.allclose(closed, torchs, rtol=1e-14)):
            wrong += 1
            print(f"case {case}: {shape} {told}: closed {closed}, counted {counted}, torch {torchs}")
    print(f"{options.cases} random geometries: {wrong} differ")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
