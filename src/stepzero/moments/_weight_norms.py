"""Rules for weights that the graph itself rescales: standardised rows, a direction with its own length."""

from __future__ import annotations

from math import prod

import torch

from stepzero.moments._call import Call, tensor64
from stepzero.moments._signal import Knob, Moments, Signal


def standardised_weight(call: Call, w: Signal) -> Signal:
    """Weight standardisation: each row gets mean 0 and variance gain² (Qiao et al. 2019; Brock et al. 2021)."""
    gain = call.operand("weight") if call.node.arguments.get("weight") is not None else None
    second = 1.0 if gain is None else gain.average(gain.second)
    knob = None if gain is None else gain.knob
    return rescaled(w, second, knob, centred=True)


def weight_norm(call: Call) -> Signal:
    """w = g·v/|v|: E[w²] = E[g²] / (elements of v for each g) (Salimans & Kingma 2016, eq. 2)."""
    v, g = call.need("v"), call.operand("g")
    n = prod(v.shape) / prod(g.shape)
    knob = None if g.knob is None else Knob(g.knob.parameter, g.knob.factor / n)
    return rescaled(v, g.average(g.second) / n, knob)


def rescaled(w: Signal, second: float, knob: Knob | None, *, centred: bool = False) -> Signal:
    """Return a weight whose elements have mean 0 and this second moment, whatever they were drawn from."""
    q = tensor64(second).reshape((1,) * len(w.shape))
    zero = torch.zeros_like(q)
    return Signal(w.shape, w.roles, Moments(zero, q, zero, zero, q, zero), knob=knob, centred=centred)
