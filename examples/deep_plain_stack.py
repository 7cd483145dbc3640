"""Thirty plain convolutions: what torch's default makes of a signal, and what a plan makes of it."""

import torch
from torch import nn

import stepzero as sz

DEPTH, WIDTH, DRAWS = 30, 64, 16


def stack() -> nn.Sequential:
    """Return 3x3 convolutions on 8x8 maps, zero-padded, with LeakyReLU between them and no normalisation."""
    layers: list[nn.Module] = []
    for at in range(DEPTH):
        layers += [nn.Conv2d(WIDTH if at else 3, WIDTH, 3, padding=1, bias=False), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers[:-1])


def second_moments(model: nn.Sequential, batch: torch.Tensor) -> list[float]:
    """Return the second moment of every convolution's output."""
    found = []
    with torch.no_grad():
        for layer in model:
            batch = layer(batch)
            if isinstance(layer, nn.Conv2d):
                found.append(batch.square().mean().item())
    return found


torch.manual_seed(0)
batch = torch.randn(32, 3, 8, 8)
model = stack()
plan = sz.plan(model, tuple(batch.shape))

default = second_moments(model, batch)
total = [0.0] * DEPTH
for seed in range(DRAWS):
    plan.apply_(model, seed=seed)
    total = [a + b / DRAWS for a, b in zip(total, second_moments(model, batch), strict=True)]

print(f"second moment of the output of each convolution (stepzero: mean of {DRAWS} draws)\n")
print("layer   torch's default   stepzero")
for at in (0, 4, 9, 14, 19, 24, 29):
    print(f"{at + 1:5d}   {default[at]:15.3g}   {total[at]:8.3f}")
