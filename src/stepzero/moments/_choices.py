"""Rules for choices between two values, place by place: by a mask that is known, or by what a signal itself is."""

from __future__ import annotations

import torch
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _pointwise as P
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, tensor64
from stepzero.moments._joins import summed
from stepzero.moments._signal import Moments, Signal, constant, widen
from stepzero.moments._signs import COMPARISONS, compared
from stepzero.network import Ref


def where(call: Call) -> Signal:
    """A mask that is known picks between two signals; one that compares a signal with a number makes a function of it."""
    ref = call.node.arguments["condition"]
    known = call.graph.values[ref.id].known
    if known is None:
        pieces = _pieces(call, ref.id)
        if pieces is not None:
            return P.apply(*pieces)
        raise NoRuleError(f"where (at {call.where}) with a mask that depends on data")
    yes, no = (_signal_or_number(call, name) for name in ("self", "other"))
    return picked(call, known, yes, no)


def _pieces(call: Call, condition: int) -> tuple[P.Pointwise, Signal] | None:
    """where(x > c, f(x), g(x)) with all three of one signal: a softplus that is written out with a threshold."""
    comparison = compared(call.graph, condition)
    tested = None if comparison is None else call.signals.get(comparison[0])
    if comparison is None or tested is None:
        return None
    root, test = P.root_of(tested)
    (same, yes), (again, no) = (_piece(call, name, root) for name in ("self", "other"))
    if same is not root or again is not root:
        return None
    _, op, number = comparison
    above = COMPARISONS[op]

    def choose(z: Tensor) -> Tensor:
        mask = above(test.function(z), number)
        return torch.where(mask, yes.function(z), no.function(z))

    kinks = {*yes.kinks, *no.kinks, *P.preimage(test.function, (number,))}
    return P.Pointwise(f"where({test.key} {op} {number}, {yes.key}, {no.key})", choose, tuple(sorted(kinks))), root


def _piece(call: Call, name: str, root: Signal) -> tuple[Signal, P.Pointwise]:
    """Return a branch as a function of its root; one number everywhere is a function of any."""
    item = call.argument(name)
    known = call.graph.values[item.id].known if isinstance(item, Ref) else tensor64(float(item))
    if known is None or not known.numel() or bool((known != known.flatten()[0]).any()):
        return P.root_of(call.operand(name))
    number = float(known.flatten()[0])
    return root, P.Pointwise(f"{number}", lambda z: torch.full_like(z, number))


def _signal_or_number(call: Call, name: str) -> Signal:
    item = call.argument(name)
    return constant(tensor64(float(item))) if isinstance(item, (bool, int, float)) else call.operand(name)


def masked_fill(call: Call) -> Signal:
    """A known mask puts one number in place of a signal."""
    known = call.graph.values[call.node.arguments["mask"].id].known
    if known is None:
        raise NoRuleError(f"masked_fill (at {call.where}) with a mask that depends on data")
    return picked(call, known, _signal_or_number(call, "value"), call.need("self"))


def picked(call: Call, mask: Tensor, yes: Signal, no: Signal) -> Signal:
    """Take `yes` where the mask is set."""
    roles = R.broadcast(*sorted((yes.roles, no.roles), key=len, reverse=True))
    a, b = (widen(s, call.shape, roles) for s in (yes, no))

    def pick(p: Tensor, q: Tensor) -> Tensor:
        return torch.where(mask, p, q)

    zero = tensor64(0.0)
    changes = [
        None if a.tangent is None else a.tangent.each(lambda t: pick(t, zero)),
        None if b.tangent is None else b.tangent.each(lambda t: pick(zero, t)),
    ]
    return Signal(call.shape, roles, Moments(*map(pick, a.moments, b.moments)), summed([(c, 1.0) for c in changes]))
