"""Rules for noise that training adds: dropout keeps the mean, and what is shared by two places it does not touch."""

from __future__ import annotations

from stepzero.moments import _pointwise as P
from stepzero.moments import _roles as R
from stepzero.moments._call import Call
from stepzero.moments._signal import Moments, Signal


def dropout(call: Call) -> Signal:
    """E[x²]/(1-p) in training; pairs keep theirs, since masks are independent (Srivastava et al. 2014)."""
    x = call.need("input")
    p = float(call.argument("p"))
    if not (call.argument("train") and p):
        return x
    keep = 1.0 - p
    m = x.moments
    return Signal(x.shape, x.roles, m._replace(second=m.second / keep), x.carrier / keep)


def feature_dropout(call: Call) -> Signal:
    """Dropout of whole channels: other places of the same input share the mask."""
    x = call.need("input")
    p = float(call.argument("p"))
    if not (call.argument("train") and p):
        return x
    keep = 1.0 - p
    m = x.moments
    shared = m._replace(second=m.second / keep, near=m.near / keep, elsewhere=m.elsewhere / keep)
    return Signal(x.shape, x.roles, shared, x.carrier / keep)


def bernoulli(call: Call) -> Signal | None:
    """A mask drawn anew: mean p, second moment p (stochastic depth)."""
    p = call.argument("p")
    if not isinstance(p, float):
        return None
    import torch

    mean = torch.full((1,) * len(call.shape), p, dtype=torch.float64)
    roles = R.label(call.shape, ["batch", *["channel"] * (len(call.shape) - 1)])
    return Signal(call.shape, roles, Moments(mean, mean, mean, mean, mean**2, mean**2), mean * 0)


__all__ = ["P", "bernoulli", "dropout", "feature_dropout"]
