"""The rule for einsum: a product of two tensors, written with letters."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from stepzero.errors import NoRuleError
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._products import Contraction, contracted
from stepzero.moments._signal import Moments, Signal


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

    Several summed axes count as one, with places if any of them holds places.
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
    m, change = contracted(call, a, b, contraction, rows=e.standard)
    return Signal(call.shape, roles, m.ranked(rank), None if change is None else change.ranked(rank))


def _role(axis: R.Axis, size: int) -> R.Axis:
    """A weight's own axis makes channels."""
    return R.single(size, "channel") if R.of(axis) <= {"copy"} else axis


def _weighted(m: Moments, w: Signal, terms: int) -> Moments:
    factor = terms * w.average(w.second - w.mean**2)
    steady = terms * w.average(w.mean)
    flat = m.each(lambda t: t.mean())
    return Moments(flat.mean * steady, *(t * factor + flat.mean**2 * (steady * steady) for t in flat[1:]))


EINSUM: dict[str, Rule] = {"einsum": einsum}
