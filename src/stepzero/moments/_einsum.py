"""The rule for einsum: a product of two tensors, written with letters."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._products import Contraction, View, Views, contracted
from stepzero.moments._signal import Moments, Signal, ranked


class Equation(NamedTuple):
    """The letters of two operands and of the result."""

    left: str
    right: str
    out: str

    @classmethod
    def of(cls, call: Call) -> Equation:
        """Read the equation of a recorded einsum of two operands.

        Raises:
            NoRuleError: if it has another number of operands, an ellipsis, a repeated letter, or sums one operand alone.
        """
        text = str(call.argument("equation")).replace(" ", "")
        sides, _, out = text.partition("->")
        left, _, right = sides.partition(",")
        e = cls(left, right, out if "->" in text else _implied(left + right))
        alone = (set(left) ^ set(right)) - set(e.out)
        plain = all(len(set(part)) == len(part) and part.isalpha() for part in (left, right) if part)
        if not right or "," in right or not plain or alone:
            raise NoRuleError(f"einsum {text!r} (at {call.where}) is no plain product of two operands")
        return e

    @property
    def summed(self) -> str:
        """The letters that both operands have and the result has not."""
        return "".join(c for c in self.left if c in self.right and c not in self.out)

    @property
    def standard(self) -> bool:
        """Say whether it is a matrix product of the last two axes: …ij,…jd→…id."""
        lead = self.out[:-2]
        return (
            len(self.summed) == 1
            and self.left == lead + self.out[-2:-1] + self.summed
            and self.right == lead + self.summed + self.out[-1:]
        )


def _implied(letters: str) -> str:
    return "".join(sorted(c for c in set(letters) if letters.count(c) == 1))


def einsum(call: Call) -> Signal:
    """Two signals multiply and add as in a matrix product; a weight adds Σ E[w²]E[x²] and keeps every pair.

    Several summed axes count as one, with places if any of them holds places. Channels that both operands and the result
    have (heads) are looked at one by one where their moments differ: those of Mamba-2 with large steps Δ forget fastest.
    """
    e = Equation.of(call)
    a, b = call.operands("tensors")
    sides = sorted(((e.right, b), (e.left, a)), key=lambda side: side[1].knob is None)  # a signal's roles come last
    axes = {c: axis for part, s in sides for c, axis in zip(part, s.roles, strict=True) if axis}
    sizes = dict(zip(e.left + e.right, a.shape + b.shape, strict=True))
    terms = prod(sizes[c] for c in e.summed)
    roles = tuple(_role(axes.get(c, ()), sizes[c]) for c in e.out)
    rank = len(call.shape)
    if a.knob is not None or b.knob is not None:
        x, w = (b, a) if a.knob is not None else (a, b)
        m, change = x.mapped(lambda m: _weighted(m, w, terms))
        return Signal(call.shape, roles, m.ranked(rank), None if change is None else change.ranked(rank))
    inner: R.Axis = tuple(f for c in e.summed for f in axes.get(c, ()))
    contraction = Contraction(terms, inner, inner, axes.get(e.out[-1], ()) if e.out else ())
    views = _views(e, a, b, roles)
    m, change = contracted(call, a, b, contraction, rows=e.standard and views is None, views=views)
    return Signal(call.shape, roles, m.ranked(rank), None if change is None else change.ranked(rank))


def _views(e: Equation, a: Signal, b: Signal, roles: R.Roles) -> Views | None:
    """Look at each channel by itself that both operands and the result have, if its moments are its own."""
    apart = [
        c for c, axis in zip(e.out, roles, strict=True) if c in e.left and c in e.right and R.is_all(axis, "channel")
    ]
    varying = [c for c in apart if _varies(a, e.left.index(c)) or _varies(b, e.right.index(c))]
    return (_view(e.left, e.out, varying), _view(e.right, e.out, varying)) if varying else None


def _varies(x: Signal, axis: int) -> bool:
    return any(ranked(t, len(x.shape)).shape[axis] > 1 for t in x.moments[:2])


def _view(letters: str, out: str, kept: list[str]) -> View:
    """Average over all but the kept letters, and put these where the result has them."""

    def view(t: Tensor) -> Tensor:
        t = ranked(t, len(letters))
        gone = [d for d, c in enumerate(letters) if c not in kept]
        t = t.mean(dim=gone) if gone else t
        left = [c for c in letters if c in kept]
        t = t.permute([left.index(c) for c in out if c in kept])
        sizes = iter(t.shape)
        return t.reshape([next(sizes) if c in kept else 1 for c in out])

    return lambda m: m.each(view)


def _role(axis: R.Axis, size: int) -> R.Axis:
    """A weight's own axis makes channels."""
    return R.single(size, "channel") if R.of(axis) <= {"copy"} else axis


def _weighted(m: Moments, w: Signal, terms: int) -> Moments:
    factor = terms * w.average(w.second - w.mean**2)
    steady = terms * w.average(w.mean)
    flat = m.each(lambda t: t.mean())
    return Moments(flat.mean * steady, *(t * factor + flat.mean**2 * (steady * steady) for t in flat[1:]))


EINSUM: dict[str, Rule] = {"einsum": einsum}
