"""Which weights and which inputs two outputs of a convolution have in common, borders and strides counted out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LONGEST = 64  # outputs along an axis that are looked at: of a longer one, all but the border is alike


class Meetings(NamedTuple):
    """For outputs p, p' that n, n' weights of each input channel reach: averages over the map, per n·n'."""

    own: float  # the weights of one output: 1/n
    weights_near: float  # weights that p and the next output both use
    weights_elsewhere: float  # that p and any other output both use
    inputs_near: float  # inputs that p and the next output both read, by different weights
    inputs_elsewhere: float

    def over(self, channels: int) -> Meetings:
        """Return the same for outputs that are sums over several input channels."""
        return Meetings(*(t / channels for t in self))


Axis = tuple[int, int, int, str | int, int, int]  # inputs, kernel, stride, padding, dilation, outputs


def meetings(axes: Sequence[Axis]) -> Meetings:
    """Return what outputs of a convolution share; every quantity is a product over the axes."""
    sides = [_along(*axis) for axis in axes]
    own = prod(float(w.diagonal().mean()) for w, _ in sides)
    places = prod(min(outputs, LONGEST) for *_, outputs in axes)

    def elsewhere(which: int) -> float:
        return (prod(float(s[which].mean()) for s in sides) * places - own) / max(1, places - 1)

    def near(which: int) -> float:
        found = []
        for i, side in enumerate(sides):
            if side[which].shape[0] > 1:
                others = prod(float(s[which].diagonal().mean()) for j, s in enumerate(sides) if j != i)
                found.append(float(side[which].diagonal(1).mean()) * others)
        return sum(found) / len(found) if found else 0.0

    return Meetings(own, near(0), elsewhere(0), near(1), elsewhere(1))


@lru_cache(maxsize=256)
def _along(
    inputs: int, kernel: int, stride: int, padding: str | int, dilation: int, outputs: int
) -> tuple[Tensor, Tensor]:
    """Along one axis, for each two outputs: weights and inputs in common, over n·n' of each."""
    most = stride * (LONGEST - 1) + dilation * (kernel - 1) + 1
    n = min(inputs, most)
    eye = torch.eye(kernel, dtype=torch.float64).unsqueeze(1)
    reached: Tensor = F.conv1d(torch.eye(n, dtype=torch.float64).unsqueeze(1), eye, None, stride, padding, dilation)
    reached = reached[..., : min(outputs, LONGEST)]  # (input, weight, output)
    used, read = reached.sum(0).clamp_max(1.0), reached.sum(1)
    count = used.sum(0).clamp_min(1.0)
    size = count[:, None] * count
    return used.T @ used / size, read.T @ read / size
