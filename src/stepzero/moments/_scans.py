"""Rules for running sums: each place adds to all that came before it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._joins import add, binary
from stepzero.moments._segments import Segment, segment
from stepzero.moments._signal import Moments, Signal, ranked

OVERLAP = 1 / 3  # chance that a term of one stretch lies in another between two places drawn at random
_strangers = binary(add)


@dataclass(frozen=True)
class _Sums:
    """S_t = Σ x_s over s ≤ t: what each term has of its own, and what all terms share, which grows coherently."""

    axis: int
    own: Tensor  # Σ (E[x²] - E[x x'])
    shared: tuple[tuple[Tensor, Tensor], ...]  # (c, G): c·G_s·G_t of E[S_s S_t]

    @classmethod
    def of(cls, x: Signal, d: int, own: Tensor, pair: Tensor, mean: Tensor | None) -> _Sums:
        """Sum moments with a mean, whose terms may differ (padding); or a small change (None), a linear map of it."""
        n, rank = x.shape[d], len(x.shape)
        own, pair = ranked(own, rank), ranked(pair, rank)

        def total(t: Tensor) -> Tensor:
            return t.expand([n if i == d else s for i, s in enumerate(t.shape)]).cumsum(d)

        if mean is None:
            count = total(torch.ones((1,) * rank, dtype=torch.float64))
            return cls(d, total(own - pair), ((pair.mean(d, keepdim=True), count),))
        mean = ranked(mean, rank)
        covariance = pair - mean**2
        side = covariance.mean(d, keepdim=True).sign()
        steady = (torch.ones_like(side), total(mean))
        return cls(d, total(own - pair), (steady, (side, total(covariance.abs().sqrt()))))

    def same(self) -> Tensor:
        """E[S_t²]."""
        return self.own + sum(c * g**2 for c, g in self.shared)

    def beside(self) -> Tensor:
        """E[S_t S_t+1]; the last place has its neighbour before it."""
        d, n = self.axis, self.own.shape[self.axis]
        following = [min(t + 1, n - 1) for t in range(n)]
        y = self.own + sum(c * g * g.index_select(d, torch.tensor(following)) for c, g in self.shared)
        return torch.cat([y.narrow(d, 0, n - 1), y.narrow(d, max(n - 2, 0), 1)], dim=d)

    def anywhere(self) -> Tensor:
        """E[S_s S_t], averaged over s: both have their first min(s, t) terms in common."""
        d, n = self.axis, self.own.shape[self.axis]
        later = torch.arange(n - 1, -1, -1, dtype=torch.float64).reshape(
            [-1 if i == d else 1 for i in range(self.own.dim())]
        )
        return (self.own.cumsum(d) + later * self.own) / n + sum(
            c * g * g.mean(d, keepdim=True) for c, g in self.shared
        )

    def between(self, s: Segment) -> tuple[Tensor, Tensor]:
        """E[(S_i - S_j)²], and E of its product with another stretch that runs the same way."""
        n = self.own.shape[self.axis]
        place = torch.arange(n, dtype=torch.float64).reshape(
            [-1 if i == self.axis else 1 for i in range(self.own.dim())]
        )
        own = s.across(self.own) * s.across(place).sign()
        same, other = own, OVERLAP * own
        for c, g in ((c.unsqueeze(self.axis), s.across(g)) for c, g in self.shared):
            same, other = (
                same + c * g**2,
                other + c * g.abs() * g.abs().mean(dim=s.axes, keepdim=True) * (n / max(1, n - 1)),
            )
        return same, other


def running_sum(call: Call) -> Signal:
    """cumsum: after t terms E[S²] = Σ(q - e) + t²·e, where e is what terms share; S and S' share their first terms."""
    x = call.operand("self")
    d = int(call.argument("dim")) % len(x.shape)
    along = R.is_all(x.roles[d], "position")

    def run(m: Moments, mean: Tensor | None) -> Moments:
        total = _mean(x, d, m)
        if not along:
            return Moments(total, *(_Sums.of(x, d, t, m.mean**2, mean).same() for t in m[1:]))
        one, two = _Sums.of(x, d, m.second, m.elsewhere, mean), _Sums.of(x, d, m.across, m.apart, mean)
        return Moments(total, one.same(), one.beside(), one.anywhere(), two.same(), two.anywhere())

    with torch.no_grad():
        moments = run(x.moments, x.mean)
    return Signal(call.shape, x.roles, moments, None if x.tangent is None else run(x.tangent, None))


def _mean(x: Signal, d: int, m: Moments) -> Tensor:
    ones = torch.ones([n if i == d else 1 for i, n in enumerate(x.shape)], dtype=torch.float64)
    return (ranked(m.mean, len(x.shape)) * ones).cumsum(d)


def difference(call: Call) -> Signal:
    """a - b of strangers, or the terms between two places of a running sum, which S_i and S_j do not have in common."""
    s = segment(call.graph, call.node)
    x = None if s is None else call.signals.get(s.total.inputs[0])
    if s is None or x is None or not R.is_all(x.roles[s.axis], "position"):
        return _strangers(call)

    def run(m: Moments, mean: Tensor | None) -> Moments:
        same, other = _Sums.of(x, s.axis, m.second, m.elsewhere, mean).between(s)
        across, apart = _Sums.of(x, s.axis, m.across, m.apart, mean).between(s)
        return Moments(s.across(_mean(x, s.axis, m)), same, same, other, across, apart)

    with torch.no_grad():
        moments = run(x.moments, x.mean)
    roles = R.broadcast(call.need("self").roles, call.need("other").roles)
    return Signal(call.shape, roles, moments, None if x.tangent is None else run(x.tangent, None))


SCANS: dict[str, Rule] = {"cumsum": running_sum, "sub": difference}
