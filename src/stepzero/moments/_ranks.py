"""Rules for sort and topk: each rank has a mean of its own, and what is left scatters less than one member."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from stepzero.moments import _pointwise as P
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._extents import increasing
from stepzero.moments._signal import Moments, Signal, ranked
from stepzero.moments._signs import sign

Array = NDArray[np.float64]


def ordered(call: Call) -> tuple[Signal, None]:
    """The values of one axis in order, all of them or the first k; behind an increasing pointwise function, those of its root.

    With x = m + √c·a + √v·ε, c shared, rank i has m + √v·z_i with the expected z_i of n normals (Blom 1958), and scatters by c
    and by a share of v that leaves E[x²] what it was on average over all ranks: exact there. What cannot be negative and is no
    pending function (shares of a softmax) is taken as log-normal instead, its sum kept. A change is that of any
    member, of shares in proportion to their size.
    """
    x = call.operand("self")
    root, phi = P.root_of(x)
    if x.source is not None and not increasing(phi):
        root, phi = x, P.IDENTITY
    d = int(call.argument("dim", -1)) % len(x.shape)
    z, share = _ranks(call, x.shape[d])
    positive = root is x and sign(call.graph, call.node.inputs[0]) > 0
    m = (_positive if positive else _normal)(root, d, z, share)
    change = _change(root, d, m.second / root.average(root.second) if positive else None)
    y = Signal(call.shape, tuple(R.resize(a, n) for a, n in zip(root.roles, call.shape, strict=True)), m, change)
    return (y if phi is P.IDENTITY else P.pending(y, phi)), None


def _ranks(call: Call, n: int) -> tuple[Tensor, Tensor]:
    """Return the expected normals of the ranks that are put out, in their order, and their share of the variance."""
    topk = call.op == "topk"
    order = slice(None) if call.argument("largest" if topk else "descending", topk) else slice(None, None, -1)
    count = call.argument("k", n)
    first, second = (torch.from_numpy(t[order][:count].copy()) for t in _scores(n))
    return first, second


def _scores(n: int) -> tuple[Array, Array]:
    """Return the expected normals of n ranks, the largest first, and how much of their variance each keeps."""
    p = (np.arange(n, 0, -1) - 0.375) / (n + 0.25)
    z = norm.ppf(p)
    scatter = p * (1 - p) / norm.pdf(z) ** 2
    return z, scatter / scatter.mean() * max(0.0, 1.0 - float((z * z).mean()))


def _along(t: Tensor, d: int, rank: int) -> Tensor:
    return t.reshape([-1 if i == d else 1 for i in range(rank)])


def _averaged(x: Signal, d: int) -> tuple[Moments, Tensor]:
    """Return moments of an average member, and what two members have in common beyond their mean."""
    m = x.moments.each(lambda t: ranked(t, len(x.shape)).mean(d, keepdim=True))
    places = R.of(x.roles[d]) <= {"position"}
    return m, (m.elsewhere - m.mean**2).clamp_min(0.0) if places else torch.zeros_like(m.mean)


def _normal(x: Signal, d: int, z: Tensor, share: Tensor) -> Moments:
    m, common = _averaged(x, d)
    private = (m.second - m.mean**2 - common).clamp_min(0.0)
    mean = m.mean + private.sqrt() * _along(z, d, len(x.shape))
    second = mean**2 + common + private * _along(share, d, len(x.shape))
    return _with_pairs(x, d, m, mean, second, common)


def _positive(x: Signal, d: int, z: Tensor, share: Tensor) -> Moments:
    """Return ranks of n values as shares of a softmax of s·z, for the s that leaves E[x²] what it was."""
    m, common = _averaged(x, d)
    whole, scatter = _scores(x.shape[d])
    mean, second = x.average(m.mean), x.average(m.second)

    def ranks(s: float) -> tuple[Array, Array]:
        weights = np.exp(s * (whole - whole[0]))
        shares = weights / weights.sum()
        first = mean * len(whole) * shares
        return first, first**2 * np.exp(s * s * scatter * (1.0 - shares) ** 2)  # a large one raises the sum as well

    low, high = 0.0, 16.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if ranks(middle)[1].mean() < second else (low, middle)
    at = [int(np.abs(whole - float(v)).argmin()) for v in z]
    first, square = (_along(torch.from_numpy(t[at].copy()), d, len(x.shape)) for t in ranks(low))
    return _with_pairs(x, d, m, first, square, torch.zeros_like(common))


def _with_pairs(x: Signal, d: int, m: Moments, mean: Tensor, second: Tensor, common: Tensor) -> Moments:
    """Other places and inputs have the same rank elsewhere; where the ranks are the places, other places are other ranks."""
    same = [mean**2 + (t - m.mean**2).clamp_min(0.0) for t in m[2:]]
    count = mean.shape[d]
    if "position" not in R.of(x.roles[d]) or count < 2:
        return Moments(mean, second, *same)
    others = mean * (mean.sum(d, keepdim=True) - mean) / (count - 1)
    whole = count == x.shape[d]  # then the pairs of all ranks are those of all places
    elsewhere, apart = (
        others + (t - others.mean(d, keepdim=True) if whole else common) for t in (m.elsewhere, m.apart)
    )
    beside = torch.cat([mean.narrow(d, 1, count - 1), mean.narrow(d, count - 2, 1)], d)
    return Moments(mean, second, mean * beside + (second - mean**2), elsewhere, same[2], apart)


def _change(x: Signal, d: int, profile: Tensor | None) -> Moments | None:
    """The member of a rank may be any, and that of another input is rarely the same channel; shares move by shares of themselves."""
    if x.tangent is None:
        return None
    c = x.tangent.each(lambda t: ranked(t, len(x.shape)).mean(d, keepdim=True))
    met = 1.0 if R.of(x.roles[d]) <= {"position"} else 1.0 / x.shape[d]
    change = Moments(c.mean, c.second, *(t * met for t in c[2:]))
    return change if profile is None else Moments(change.mean, *(t * profile for t in change[1:]))


RANKS: dict[str, Rule] = dict.fromkeys(("sort", "topk"), ordered)
