"""Sines and cosines of phases: position tables whose numbers nobody knows, because a buffer on meta has none."""

from __future__ import annotations

import torch

from stepzero.moments import _roles as R
from stepzero.moments._activations import pointwise
from stepzero.moments._call import Call, Rule
from stepzero.moments._signal import Moments, Signal
from stepzero.network import Ref


def wave(call: Call) -> Signal:
    """A sine or cosine: pointwise of a signal; of phases without numbers, mean 0 and second moment 1/2.

    A rotary embedding x·cos + rotated(x)·sin then keeps E[x²] (Su et al. 2021, arXiv:2104.09864); other places
    are taken to have phases of their own, neighbours the same, as the many slow frequencies have.
    """
    ref = call.node.arguments["self"]
    if isinstance(ref, Ref) and (ref.id in call.signals or call.graph.values[ref.id].known is not None):
        return pointwise(call)
    one = torch.ones((1,) * len(call.shape), dtype=torch.float64)
    nothing, half = 0.0 * one, 0.5 * one
    roles = R.guess(call.shape, channel_last=True)
    return Signal(call.shape, roles, Moments(nothing, half, half, nothing, half, nothing))


WAVES: dict[str, Rule] = dict.fromkeys(("cos", "sin"), wave)
