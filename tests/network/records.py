"""Recordings of one tensor, for tests."""

import torch
from torch import nn

from stepzero.network import build, recording


def of(fill, *shape):
    """Return the origin of one parameter that `fill` initialises."""

    def factory():
        module = nn.Module()
        module.w = nn.Parameter(torch.empty(*(shape or (6, 4))))
        made = fill(module.w)
        if isinstance(made, torch.Tensor) and made is not module.w:
            module.w = nn.Parameter(made.detach() if made.requires_grad else made)
        return module

    return recording(build(factory))["w"]


def inplace(fill):
    def run(w):
        with torch.no_grad():
            fill(w)

    return run
