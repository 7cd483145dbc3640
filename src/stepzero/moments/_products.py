"""Rules for products of two signals, and for tokens looked up in a table: sums over an axis that both share."""

from __future__ import annotations

import torch
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _roles as R
from stepzero.moments._attention import mixture
from stepzero.moments._call import Call, Rule
from stepzero.moments._joins import summed
from stepzero.moments._signal import Moments, Signal
from stepzero.moments._weights import weighted


def product(call: Call) -> Signal:
    """matmul, mm, bmm: a weight, or two signals whose products add along the contracted axis.

    Rows of a softmax mix values as in attention. Else E[(Σ_k a b)²] = Σ E[a²]E[b²] + Σ over pairs of E[a a']E[b b']; along channels pairs are means, along positions
    those of one row of `a` (its `near`) with any two places of `b`.
    """
    a, b = call.operand("self"), call.operand("mat2" if "mat2" in call.node.arguments else "other")
    if call.op != "bmm" and b.knob is not None and len(b.shape) == 2:
        return weighted(call)
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise NoRuleError(f"{call.op} (at {call.where}) of a vector has no rule")
    contraction = _Contraction(a, b)
    by_left = None if a.tangent is None else contraction(_flat(a.tangent), _flat(b.moments))
    by_right = None if b.tangent is None else contraction(_flat(a.moments), _flat(b.tangent))
    attended = mixture(call, a, b, by_left)
    if attended is None:
        attended = contraction(_flat(a.moments), _flat(b.moments)), summed([(by_left, 1.0), (by_right, 1.0)])
    m, change = attended
    rank = len(call.shape)
    lead = a.roles[:-2] if len(a.shape) >= len(b.shape) else b.roles[:-2]
    roles = (*lead, a.roles[-2], b.roles[-1])
    return Signal(call.shape, roles, m.ranked(rank), None if change is None else change.ranked(rank))


def _flat(m: Moments) -> Moments:
    return m.each(lambda t: t.mean())


class _Contraction:
    """Σ_k a_k b_k on averages."""

    def __init__(self, a: Signal, b: Signal) -> None:
        self.terms = a.shape[-1]
        self.places = "position" in R.of(a.roles[-1]) or "position" in R.of(b.roles[-2])
        self.columns = "position" in R.of(b.roles[-1])  # scores: adjacent outputs are one query with two keys

    def __call__(self, a: Moments, b: Moments) -> Moments:
        """Return the output's moments."""
        k = self.terms

        def pairs(own: Tensor, other: Tensor) -> Tensor:
            return k * own + k * (k - 1) * other

        if self.places:
            second = pairs(a.second * b.second, a.near * b.elsewhere)
            elsewhere = pairs(a.elsewhere * b.second, a.elsewhere * b.elsewhere)
            across = pairs(a.across * b.across, a.across * b.apart)
            return Moments(k * a.mean * b.mean, second, elsewhere, elsewhere, across, across)
        strangers = a.mean**2 * b.mean**2
        near = pairs(a.second * b.elsewhere if self.columns else a.near * b.near, strangers)
        rest = (a.elsewhere * b.elsewhere, a.across * b.across, a.apart * b.apart)
        return Moments(
            k * a.mean * b.mean, pairs(a.second * b.second, strangers), near, *(pairs(t, strangers) for t in rest)
        )


def embedding(call: Call) -> Signal:
    """Rows of a table: equal tokens are equal, different ones independent; unknown tokens are taken as uniform."""
    table = call.operand("weight")
    ids = call.graph.values[call.node.arguments["indices"].id].known
    m = table.moments.each(lambda t: t.mean().reshape((1,) * len(call.shape)))
    square = m.mean**2
    shape = call.shape
    roles = R.guess(shape, channel_last=True) if len(shape) > 2 else R.guess(shape)
    same = 1.0 / table.shape[0] if ids is None or ids.numel() < 2 else _repeats(ids)
    pair = square + same * (m.second - square)
    return Signal(shape, roles, Moments(m.mean, m.second, pair, pair, pair, pair))


def _repeats(ids: Tensor) -> float:
    """The chance that two different places hold the same token."""
    n = ids.numel()
    counts = torch.unique(ids, return_counts=True)[1].double()
    return float((counts * (counts - 1)).sum() / (n * (n - 1)))


PRODUCTS: dict[str, Rule] = {**dict.fromkeys(("bmm", "matmul", "mm"), product), "embedding": embedding}
