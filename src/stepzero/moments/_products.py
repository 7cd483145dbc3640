"""Rules for products of two signals, and for tokens looked up in a table: sums over an axis that both share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _roles as R
from stepzero.moments._attention import SCORES, mixture, turned_mixture
from stepzero.moments._call import Call, Rule
from stepzero.moments._joins import add, multiply, summed
from stepzero.moments._paths import CARRIES, upstream
from stepzero.moments._signal import Moments, Signal, widen
from stepzero.moments._weights import weighted

View = Callable[[Moments], Moments]
Views = tuple[View, View]  # of the two operands: what a contraction sees of their maps


def product(call: Call) -> Signal:
    """matmul, mm, bmm: a weight, or two signals whose products add along the contracted axis (`Contraction`)."""
    a, b = call.operand("self"), call.operand("mat2" if "mat2" in call.node.arguments else "other")
    if call.op != "bmm" and b.knob is not None and len(b.shape) == 2:
        return weighted(call)
    return _product(call, a, b)


def added_product(call: Call) -> Signal:
    """baddbmm: β·self + α·(batch1 @ batch2), the parts independent (ALiBi biases on scores)."""
    y = _product(call, call.operand("batch1"), call.operand("batch2"))
    alpha, beta = (float(call.argument(name, 1.0)) for name in ("alpha", "beta"))
    if not beta:
        return y.scaled(alpha**2)
    rank = len(call.shape)
    bias = call.operand("self")
    m = bias.scaled(beta**2).moments.ranked(rank)
    return add(call, y.scaled(alpha**2), Signal(call.shape, y.roles, m))


def _product(call: Call, a: Signal, b: Signal) -> Signal:
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise NoRuleError(f"{call.op} (at {call.where}) of a vector has no rule")
    state = _is_state(call) if R.count(b.roles, "position") < 2 <= R.count(a.roles, "position") else None
    contraction = Contraction(a.shape[-1], a.roles[-1], b.roles[-2], b.roles[-1], a.roles[-2], state)
    m, change = contracted(call, a, b, contraction)
    rank = len(call.shape)
    lead = a.roles[:-2] if len(a.shape) >= len(b.shape) else b.roles[:-2]
    roles = (*lead, a.roles[-2], b.roles[-1])
    return Signal(call.shape, roles, m.ranked(rank), None if change is None else change.ranked(rank))


def _is_state(call: Call) -> bool:
    """Whether the right operand is Σ_n k_n v_nᵀ over places (linear attention, Katharopoulos et al. 2020)."""
    node = upstream(call.graph, call.node.inputs[-1], SCORES, CARRIES)
    maker = None if node is None else call.signals.get(node.inputs[-2])
    return maker is not None and "position" in R.of(maker.roles[-1])


def multiplied_on(call: Call) -> Signal:
    """addcmul: self + value·tensor1·tensor2, all independent (a token mixed with its shifted self)."""
    parts = [call.operand(name) for name in ("self", "tensor1", "tensor2")]
    roles = max((p.roles for p in parts), key=lambda r: (len(r), sum(map(bool, r))))
    x, left, right = (widen(p, call.shape, R.broadcast(roles, p.roles)) for p in parts)
    return add(call, x, multiply(call, left, right).scaled(float(call.argument("value", 1.0)) ** 2))


def contracted(
    call: Call, a: Signal, b: Signal, contraction: Contraction, *, rows: bool = True, views: Views | None = None
) -> tuple[Moments, Moments | None]:
    """Return the moments and the change of Σ_k a_k b_k; rows of a softmax mix values as in attention."""
    left, right = views or (_flat, _by_column if rows and R.is_all(b.roles[-1], "channel") else _flat)
    by_row = rows and "position" in R.of(a.roles[-2])  # a change may live at one token alone: a class token's query
    by_left = None if a.tangent is None else contraction((_by_row if by_row else left)(a.tangent), right(b.moments))
    by_right = None if b.tangent is None else contraction(left(a.moments), right(b.tangent))
    attended = (mixture(call, a, b, by_left) or turned_mixture(call, a, b, by_right)) if rows else None
    if attended is not None:
        return attended
    return contraction(left(a.moments), right(b.moments)), summed([(by_left, 1.0), (by_right, 1.0)])


def _flat(m: Moments) -> Moments:
    return m.each(lambda t: t.mean())


def _by_row(m: Moments) -> Moments:
    """Average over all but the rows."""
    return m.each(
        lambda t: t.mean(dim=[d for d in range(t.dim()) if d != t.dim() - 2]).unsqueeze(-1) if t.dim() > 1 else t
    )


def _by_column(m: Moments) -> Moments:
    """Average, but leave columns apart that differ: values, and beside them a one whose sum divides theirs."""
    return m.each(lambda t: t.mean(dim=tuple(range(t.dim() - 1))) if t.dim() > 1 and t.shape[-1] > 1 else t.mean())


class Contraction:
    """Σ_k a_k b_k on averages.

    E[(Σ_k a b)²] = Σ E[a²]E[b²] + Σ over pairs of E[a a']E[b b']; along channels pairs are means, along positions
    those of one row of `a` (its `near`) with any two places of `b`. A product of channels with channels over all places
    (XCA, the state of linear attention) has no places left: its `near` is that of two entries of a row, its `elsewhere`
    and `apart` those of two entries of a column. A `b` without places is the same for each place of `a` (`state` says whether it is
    such a product); linear attention with ReLU alone is within 5 % of Monte Carlo up to its division.
    """

    def __init__(
        self, terms: int, left: R.Axis, right: R.Axis, columns: R.Axis, rows: R.Axis = (), state: bool | None = None
    ) -> None:
        self.terms, self.state = terms, state
        self.places = "position" in R.of(left) or "position" in R.of(right)
        self.columns = "position" in R.of(columns)  # scores: adjacent outputs are one query with two keys
        self.covariance = self.places and R.is_all(rows, "channel") and R.is_all(columns, "channel")

    def __call__(self, a: Moments, b: Moments) -> Moments:
        """Return the output's moments."""
        k = self.terms

        def pairs(own: Tensor, other: Tensor) -> Tensor:
            return k * own + k * (k - 1) * other

        if self.covariance:
            row = pairs(a.second * b.mean**2, a.elsewhere * b.mean**2)
            column = pairs(a.mean**2 * b.second, a.mean**2 * b.elsewhere)
            foreign = pairs(a.mean**2 * b.across, a.mean**2 * b.apart)
            second, across = (
                pairs(p * q, r * s)
                for p, q, r, s in (
                    (a.second, b.second, a.elsewhere, b.elsewhere),
                    (a.across, b.across, a.apart, b.apart),
                )
            )
            return Moments(k * a.mean * b.mean, second, row, column, across, foreign)
        if self.places:
            second = pairs(a.second * b.second, a.near * b.elsewhere)
            elsewhere = pairs(a.elsewhere * b.second, a.elsewhere * b.elsewhere)
            across = pairs(a.across * b.across, a.across * b.apart)
            return Moments(k * a.mean * b.mean, second, elsewhere, elsewhere, across, across)
        strangers = a.mean**2 * b.mean**2
        if self.state is not None:
            same, foreign = ((a.mean**2 * t if self.state else strangers) for t in (b.elsewhere, b.apart))
            near, elsewhere = (pairs(t * b.second, same) for t in (a.near, a.elsewhere))
            across, apart = (pairs(t * b.across, foreign) for t in (a.across, a.apart))
            return Moments(k * a.mean * b.mean, pairs(a.second * b.second, same), near, elsewhere, across, apart)
        near = pairs(a.second * b.elsewhere if self.columns else a.near * b.near, strangers)
        rest = (a.elsewhere * b.elsewhere, a.across * b.across, a.apart * b.apart)
        return Moments(
            k * a.mean * b.mean, pairs(a.second * b.second, strangers), near, *(pairs(t, strangers) for t in rest)
        )


def embedding(call: Call) -> Signal:
    """Rows of a table: equal tokens are equal, different ones as alike as rows are; unknown tokens are taken as uniform."""
    table = call.operand("weight")
    ids = call.graph.values[call.node.arguments["indices"].id].known
    m = table.moments.each(lambda t: t.mean().reshape((1,) * len(call.shape)))
    shape = call.shape
    roles = R.guess(shape, channel_last=True) if len(shape) > 2 else R.guess(shape)
    same = 1.0 / table.shape[0] if ids is None or ids.numel() < 2 else _repeats(ids)
    pair = m.elsewhere + same * (m.second - m.elsewhere)
    if ids is not None and _counts(ids):  # positions: rows in order, the same for every input
        roles = (R.single(shape[0], "position"), R.single(shape[1], "channel")) if len(shape) == 2 else roles
        return Signal(shape, roles, Moments(m.mean, m.second, m.near, m.elsewhere, m.second, m.elsewhere))
    return Signal(shape, roles, Moments(m.mean, m.second, pair, pair, pair, pair))


def _counts(ids: Tensor) -> bool:
    """Say whether every input asks for rows in their order."""
    return (
        ids.dim() > 0
        and ids.shape[-1] > 1
        and bool((ids.diff(dim=-1) == 1).all() and (ids[..., 0] == ids.flatten()[0]).all())
    )


def _repeats(ids: Tensor) -> float:
    """The chance that two different places hold the same token."""
    n = ids.numel()
    counts = torch.unique(ids, return_counts=True)[1].double()
    return float((counts * (counts - 1)).sum() / (n * (n - 1)))


PRODUCTS: dict[str, Rule] = {
    **dict.fromkeys(("bmm", "matmul", "mm"), product),
    "addcmul": multiplied_on,
    "baddbmm": added_product,
    "embedding": embedding,
}
