"""The rule of grid_sampler: values read between the places of a map (deformable attention, spatial transformers)."""

from __future__ import annotations

from math import comb

import torch
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._joins import summed
from stepzero.moments._signal import Moments, Signal, ranked

OWN, BESIDE = 2 / 3, 1 / 3  # E[f² + (1-f)²] and 2E[f(1-f)] for the weights f and 1-f of two neighbours, f uniform


def sampled(call: Call) -> Signal:
    """Linear interpolation at places anywhere in the map; other samples are other places.

    E[y²] averages over where between its neighbours a place lies: in a plane (2/3)² of q, 2·(2/3)(1/3) of adjacent pairs, (1/3)² of diagonal ones,
    which share what adjacent ones do beyond distant ones once more. What is read beyond the border (zeros) is left out. A change of the place,
    in units of half the map, counts by the difference of neighbours.
    """
    mode, x, grid = int(call.argument("interpolation_mode")), call.operand("input"), call.signal("grid")
    if mode > 1:
        raise NoRuleError(f"{call.op} (at {call.where}) that is bicubic has no rule")
    d = 0 if mode == 1 else len(x.shape) - 2
    m, change = x.mapped(lambda m: m.each(lambda t: _average(t, len(x.shape))))
    fade = ((m.near - m.elsewhere) / (m.second - m.elsewhere).clamp_min(1e-300)).clamp(0.0, 1.0)
    parts: list[tuple[Moments | None, float | Moments]] = [(None if change is None else _between(change, fade, d), 1.0)]
    if grid is not None and grid.tangent is not None and d:
        parts.append((_moved(_apart(m, fade, d), grid.tangent, x.shape[2:]), 1.0))
    roles = (*x.roles[:2], *(R.single(n, "position") for n in call.shape[2:]))
    return Signal(call.shape, roles, _between(m, fade, d), summed(parts))


def _average(t: Tensor, rank: int) -> Tensor:
    """Average over the map."""
    return ranked(t, rank).mean(dim=tuple(range(2, rank)), keepdim=True)


def _apart(m: Moments, fade: Tensor, d: int) -> list[Tensor]:
    """Return E[x x'] of places that are one step apart along 0, 1 … d axes."""
    return [m.second, *(m.elsewhere + (m.near - m.elsewhere) * fade**n for n in range(d))]


def _between(m: Moments, fade: Tensor, d: int) -> Moments:
    second, own = torch.zeros_like(m.second), OWN**d
    for k, pair in enumerate(_apart(m, fade, d)):
        second = second + comb(d, k) * OWN ** (d - k) * BESIDE**k * pair
    return Moments(m.mean, second, m.elsewhere, m.elsewhere, own * m.across + (1 - own) * m.apart, m.apart)


def _moved(pairs: list[Tensor], change: Moments, sizes: tuple[int, ...]) -> Moments:
    """Return the change of a sample whose place moves: (n/2)²·E[(x - x')²] for each axis."""
    d = len(sizes)
    slope = torch.zeros_like(pairs[0])
    for k in range(d):
        slope = slope + 2.0 * comb(d - 1, k) * OWN ** (d - 1 - k) * BESIDE**k * (pairs[k] - pairs[k + 1]).clamp_min(0.0)
    second = sum(n * n for n in sizes) / 4.0 * slope * change.second.mean()
    zero = torch.zeros_like(slope)
    return Moments(zero, second, zero, zero, zero, zero)


SAMPLING: dict[str, Rule] = {"grid_sampler": sampled}
