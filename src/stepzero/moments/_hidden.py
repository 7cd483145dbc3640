"""Places that a mask hides behind an infinite number: a maximum, an exponential and a softmax leave them out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stepzero.moments._signal import Moments, Signal


def hidden(x: Signal, sign: float = 1.0) -> Tensor:
    """Return where a signal is -sign·∞: the loser of any maximum (sign 1) or minimum (sign -1)."""
    return x.mean == -sign * math.inf


def seen(m: Moments, behind: Tensor) -> Moments:
    """Return moments that are numbers everywhere: 0 at hidden places."""
    return m.each(lambda t: torch.where(behind, 0.0, t).nan_to_num(0.0, 0.0, 0.0))
