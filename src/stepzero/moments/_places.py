"""Places of one map: what the others have where each has means of its own, as behind a border of zeros."""

from __future__ import annotations

from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._signal import Moments


def of_others(t: Tensor, roles: R.Roles) -> Tensor:
    """Average a lean tensor over the other places of the map, for each place."""
    dims = [i - len(roles) for i in R.axes(roles, "position")]
    varies = [d for d in dims if t.dim() >= -d and t.shape[d] > 1]
    count = R.count(tuple(roles[d] for d in dims), "position")
    if not varies or count < 2:
        return t
    return (count * t.mean(dim=varies, keepdim=True) - t) / (count - 1)


def products(t: Tensor, roles: R.Roles) -> tuple[Tensor, ...]:
    """Return what numbers of each place add to E[x²] and the four pairs: their squares, or their products with others."""
    square, other = t * t, t * of_others(t, roles)
    return square, square, other, square, other


def centred(m: Moments, roles: R.Roles) -> Moments:
    """Return the moments of x - E[x]."""
    return Moments(0.0 * m.mean, *(t - own for t, own in zip(m[1:], products(m.mean, roles), strict=True)))


def shifted(m: Moments, mean: Tensor, roles: R.Roles) -> Moments:
    """Return the moments of x + mean for a centred x."""
    return Moments(mean, *(t + own for t, own in zip(m[1:], products(mean, roles), strict=True)))
