"""Rules for running sums: each place adds to all that came before it."""

from __future__ import annotations

import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._signal import Moments, Signal, ranked


def running_sum(call: Call) -> Signal:
    """cumsum: after t terms E[S²] = Σ(q - e) + t²·e, where e is what terms share; S and S' share their first terms."""
    x = call.operand("self")
    d = int(call.argument("dim")) % len(x.shape)
    n = x.shape[d]
    count = torch.arange(1.0, n + 1, dtype=torch.float64).reshape([-1 if i == d else 1 for i in range(len(x.shape))])
    along = R.is_all(x.roles[d], "position")

    def sums(own: Tensor, pair: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of one place, with the next one, and with any one."""
        own, pair = (ranked(t, len(x.shape)) for t in (own, pair))
        first = (own - pair).expand([n if i == d else s for i, s in enumerate((own - pair).shape)]).cumsum(d)
        before = (first.cumsum(d) + (n - count) * first) / n  # Σ over s of the first min(s, t) terms
        beside = first + count * (count + 1) * pair
        last = beside.narrow(d, max(n - 2, 0), 1)  # the last place has its neighbour before it
        beside = torch.cat([beside.narrow(d, 0, n - 1), last], dim=d)
        return first + count**2 * pair, beside, before + count * pair * (n + 1) / 2

    def run(m: Moments) -> Moments:
        mean = (ranked(m.mean, len(x.shape)) * torch.ones_like(count)).cumsum(d)
        if not along:
            return Moments(mean, *(sums(t, m.mean**2)[0] for t in m[1:]))
        second, near, elsewhere = sums(m.second, m.elsewhere)
        across, _, apart = sums(m.across, m.apart)
        return Moments(mean, second, near, elsewhere, across, apart)

    return Signal(call.shape, x.roles, *x.mapped(run))


SCANS: dict[str, Rule] = {"cumsum": running_sum}
