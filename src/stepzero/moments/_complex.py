"""Complex signals: second moments are E|z|², pairs E[Re z z̄'], and the mean is that of the real part.

Real and imaginary parts are taken as alike and uncorrelated beyond their mean, which rotations (rotary embeddings) and spectra keep.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _pointwise as P
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._signal import Moments, Signal, ranked
from stepzero.network import Ref


def joined(call: Call) -> Signal:
    """view_as_complex, complex: E|z|² = E[a²] + E[b²]."""
    if call.op == "complex":
        a, b = call.operand("real"), call.operand("imag")
        pairs = zip(a.moments[1:], b.moments[1:], strict=True)
        changes = [s.tangent for s in (a, b) if s.tangent is not None]
        change = (
            Moments(*(torch.stack(torch.broadcast_tensors(*t)).sum(0) for t in zip(*changes, strict=True)))
            if changes
            else None
        )
        return Signal(call.shape, a.roles, Moments(a.mean, *(p + q for p, q in pairs)), change)
    x = call.operand("self")

    def add(t: Tensor) -> Tensor:
        t = ranked(t, len(x.shape))
        return 2 * t[..., 0] if t.shape[-1] == 1 else t.sum(-1)

    m, tangent = x.mapped(lambda m: m.each(add))
    mean = ranked(x.mean, len(x.shape))[..., 0]
    return Signal(call.shape, x.roles[:-1], m._replace(mean=mean), tangent, knob=x.knob)


def parted(call: Call) -> Signal:
    """view_as_real: both parts have half of E|z|²; a mean is the real part's."""
    x = call.operand("self")
    half, tangent = x.mapped(lambda m: m.each(lambda t: ranked(t, len(x.shape))[..., None] / 2))
    roles = (*x.roles, R.single(2, "channel"))
    if not bool(x.mean.any()):
        return Signal(call.shape, roles, half, tangent)
    means = [2 * t[..., None] / 4 for t in _of_means(x)]
    sides = torch.tensor([1.0, -1.0], dtype=torch.float64)
    mean = half.mean * (1 + sides)
    return Signal(
        call.shape, roles, Moments(mean, *(t + s * sides for t, s in zip(half[1:], means, strict=True))), tangent
    )


def _of_means(x: Signal) -> list[Tensor]:
    """Return E[x]E[x'] of each kind of pair: other places have means of their own (a spectrum has one at 0 alone)."""
    mean, places = x.mean, [d for d in R.axes(x.roles, "position") if ranked(x.mean, len(x.shape)).shape[d] > 1]
    square = mean**2
    if not places:
        return [square] * 5
    mean = ranked(mean, len(x.shape))
    count = math.prod(mean.shape[d] for d in places)
    others = mean * (mean.sum(dim=places, keepdim=True) - mean) / (count - 1)
    return [square, others, others, square, others]


def part(call: Call) -> Signal:
    """The real part has the mean and half of the rest, the imaginary part half of the rest."""
    x = call.operand("self")
    keeps = call.op == "real"
    rest = ((t - s) / 2 + s * keeps for t, s in zip(x.moments[1:], _of_means(x), strict=True))
    tangent = x.tangent and x.tangent.each(lambda t: t / 2)
    return Signal(call.shape, x.roles, Moments(x.mean * keeps, *rest), tangent)


def conjugate(call: Call) -> Signal:
    """z̄: the same moments."""
    return call.operand(call.main)


def modulus(call: Call) -> Signal:
    """|z| of a circular Gaussian is Rayleigh distributed: E|z| = √(π/4 · E|z|²), and E[|z||z'|] ≈ that of its correlation's square.

    E[|z||z'|] = (π/4) q F(-½, -½; 1; ρ²), here to first order in ρ².
    """
    x = call.operand("self")
    if bool(x.mean.any()):
        raise NoRuleError(f"abs (at {call.where}) of complex numbers with a mean has no rule")
    q = x.second
    pairs = (math.pi / 4 * q * (1 + (4 / math.pi - 1) * (t / q.clamp_min(1e-300)) ** 2) for t in x.moments[2:])
    tangent = x.tangent and x.tangent.each(lambda t: t / 2)
    return Signal(call.shape, x.roles, Moments((math.pi / 4 * q).sqrt(), q, *pairs), tangent)


def arithmetic(rule: Rule) -> Rule:
    """Make the rule of a sum or product of complex signals from that of real ones: both have to be independent."""

    def independent(call: Call) -> Signal | tuple[Signal | None, ...] | None:
        refs = [item for item in call.node.arguments.values() if isinstance(item, Ref)]
        numbers = [call.graph.values[ref.id].known for ref in refs]
        roots = [P.root_of(s)[0] for ref in refs if (s := call.signals.get(ref.id)) is not None]
        if len({id(root) for root in roots}) < len(roots) or any(n is not None and n.numel() == 1 for n in numbers):
            raise NoRuleError(f"{call.op} (at {call.where}) of complex numbers that depend on each other has no rule")
        return rule(call)

    return independent


NUMBERS: dict[str, Rule] = {
    **dict.fromkeys(("view_as_complex", "complex"), joined),
    "view_as_real": parted,
    **dict.fromkeys(("real", "imag"), part),
    **dict.fromkeys(("_conj", "_conj_physical", "conj", "conj_physical", "resolve_conj"), conjugate),
}
