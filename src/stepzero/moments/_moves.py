"""Rules for data movement: the op itself runs on every moment, and the axes keep track of their roles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from stepzero.moments import _pointwise as P
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._signal import Knob, Moments, Signal, constant, lean, widen

Roling = Callable[[Call, Signal], R.Roles]


def moves(roles: Roling, *, pure: bool = True) -> Rule:
    """Make the rule of an op that only moves elements; `pure` ops commute with a pending pointwise function."""

    def rule(call: Call) -> Signal | tuple[Signal, ...]:
        x = call.need(call.main)
        if pure and x.source is not None:
            root, phi = P.root_of(x)
            moved = _moved(call, root, roles)
            pending = [P.pending(part, phi) for part in moved]
            return pending[0] if len(pending) == 1 else tuple(pending)
        moved = _moved(call, x, roles)
        return moved[0] if len(moved) == 1 else tuple(moved)

    return rule


def _moved(call: Call, x: Signal, roles: Roling) -> list[Signal]:
    """Run the op on every moment and on the carrier; several outputs give several signals."""
    cache: dict[int, list[Tensor]] = {}

    def each(t: Tensor) -> list[Tensor]:
        if id(t) not in cache:
            with torch.no_grad():
                cache[id(t)] = [_trimmed(part) for part in outputs_of(call.run(**{call.main: x.full(t)}))]
        return cache[id(t)]

    columns = [each(t) for t in x.moments]
    carriers = [lean(part) for part in outputs_of(call.run(**{call.main: x.full(x.carrier)}))]
    known = outputs_of(call.run(**{call.main: x.known})) if x.known is not None else [None] * len(carriers)
    axes = roles(call, x)
    result = []
    for i, shape in enumerate(call.shapes):
        m = Moments(*(column[i] for column in columns))
        fitted = tuple(R.resize(axis, n) for axis, n in zip(axes, shape, strict=True))
        result.append(
            Signal(shape, fitted, m, _matched(carriers[i], m), knob=x.knob, centred=x.centred, known=known[i])
        )
    return result


def outputs_of(result: Any) -> list[Tensor]:
    """Return an op's result as a list."""
    return [result] if isinstance(result, Tensor) else list(result)


def _trimmed(t: Tensor) -> Tensor:
    """Drop axes along which nothing changes, by stride or by value."""
    t = lean(t)
    for d in range(t.dim()):
        if t.shape[d] > 1 and bool((t == t.narrow(d, 0, 1)).all()):
            t = t.narrow(d, 0, 1)
    return t.clone() if t._base is not None else t


def _matched(carrier: Tensor, m: Moments) -> Tensor:
    """Trim the carrier along axes on which the second moment is constant: there gradients are alike too."""
    for d in range(carrier.dim()):
        if carrier.shape[d] > 1 and all(t.shape[d] == 1 for t in m):
            carrier = Representative.apply(carrier, d)  # type: ignore[no-untyped-call]
    return carrier


class Representative(torch.autograd.Function):
    """One element for many alike; backward hands each an equal share (narrow alone would give one all)."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, d: int) -> Tensor:
        ctx.d, ctx.n = d, t.shape[d]
        return t.narrow(d, 0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (g,) = grads
        shape = list(g.shape)
        shape[ctx.d] = ctx.n
        return (g / ctx.n).expand(shape), None


def same(call: Call, x: Signal) -> R.Roles:
    """The axes stay where they are."""
    return x.roles


def reshaped(call: Call, x: Signal) -> R.Roles:
    """A row-major reshape."""
    return R.reshape(x.roles, call.shape)


def permuted(call: Call, x: Signal) -> R.Roles:
    """A permutation of axes, read off the op's effect on a tensor whose sizes are all different."""
    rank = len(x.shape)
    probe = call.run(**{call.main: torch.empty(tuple(range(2, rank + 2)), device="meta")})
    return tuple(x.roles[size - 2] for size in probe.shape)


def dropped(call: Call, x: Signal) -> R.Roles:
    """One axis is picked from and disappears (select, unbind)."""
    d = call.argument("dim", 0) % len(x.shape)
    return x.roles[:d] + x.roles[d + 1 :]


def expanded(call: Call) -> Signal:
    """Repeat axes of size 1: the copies are perfectly alike."""
    x = call.need(call.main)
    pad = len(call.shape) - len(x.shape)
    have = ((),) * pad + x.roles
    sizes = (1,) * pad + x.shape
    usual = R.guess(call.shape, channel_last=_channel_last(x.roles))
    roles = tuple(
        axis if own == size else (usual[i] if size > 1 else ())
        for i, (axis, own, size) in enumerate(zip(have, sizes, call.shape, strict=True))
    )
    y = widen(x, call.shape, roles)
    if x.knob is not None:
        y.knob = x.knob
    return y


def _channel_last(roles: R.Roles) -> bool:
    return bool(roles) and R.is_all(roles[-1], "channel")


def repeated(call: Call) -> Signal:
    """Tile: run the op; the copies of a place are taken as other places."""
    x = call.need(call.main)
    pad = len(call.shape) - len(x.shape)
    axes = ((),) * pad + x.roles
    usual = R.guess(call.shape, channel_last=_channel_last(x.roles))
    roles = tuple(R.resize(axis, n) if axis else usual[i] for i, (axis, n) in enumerate(zip(axes, call.shape, strict=True)))
    m = x.moments.each(lambda t: _trimmed(call.run(**{call.main: x.full(t)})))
    return Signal(call.shape, roles, m, lean(call.run(**{call.main: x.full(x.carrier)})))


def padded(call: Call) -> Signal:
    """Padding: reflect, replicate and circular move values; a constant c has moments c, c², c² …"""
    x = call.need(call.main)
    value = call.argument("value") or 0.0
    if call.argument("mode", "constant") != "constant" or not value:
        return _moved(call, x, same)[0]
    m = x.moments
    with torch.no_grad():
        mean = _trimmed(call.run(self=x.full(m.mean)))
        rest = [_trimmed(call.run(self=x.full(t), value=value**2)) for t in m[1:]]
    carrier = lean(call.run(self=x.full(x.carrier), value=0.0))
    roles = tuple(R.resize(axis, n) for axis, n in zip(x.roles, call.shape, strict=True))
    return Signal(call.shape, roles, Moments(mean, *rest), carrier)


def joined(call: Call) -> Signal:
    """cat and stack: side by side; operands with the same pending function stay pending."""
    name = next(k for k, v in call.node.arguments.items() if isinstance(v, (list, tuple)))
    parts = [p if p is not None else _known_part(call, i) for i, p in enumerate(call.signals_of(name))]
    keys = {P.root_of(p)[1].key for p in parts}
    if len(keys) == 1 and parts[0].source is not None:
        root = _joined(call, name, [P.root_of(p)[0] for p in parts])
        return P.pending(root, P.root_of(parts[0])[1])
    return _joined(call, name, parts)


def _joined(call: Call, name: str, parts: Sequence[Signal]) -> Signal:
    first = max(parts, key=lambda p: sum(map(bool, p.roles)))
    dim = call.argument("dim", 0)
    if call.op == "stack":
        d = dim % (len(first.shape) + 1)
        roles = (*first.roles[:d], ((call.shape[d], "channel"),), *first.roles[d:])
    else:
        d = dim % len(first.shape)
        usual = R.guess(first.shape, channel_last=_channel_last(first.roles))
        axes = [a if a else usual[i] for i, a in enumerate(first.roles)]
        axes[d] = R.resize(first.roles[d] or (((2, "channel"),) if d == 1 else ((2, "position"),)), call.shape[d])
        roles = tuple(R.resize(a, n) if n > 1 else () for a, n in zip(axes, call.shape, strict=True))

    def run(tensors: list[Tensor]) -> Tensor:
        # join at the least common size: axes on which no part varies stay lean
        rank = len(first.shape)
        lead = [1 if i != d and all(t.dim() < rank or t.shape[i] == 1 for t in tensors) else n
                for i, n in enumerate(first.shape)]
        if call.op == "stack":
            lead = [1 if all(t.dim() < rank or t.shape[i] == 1 for t in tensors) else n for i, n in enumerate(first.shape)]
            return torch.stack([t.expand(lead) for t in tensors], dim=d)
        sized = [t.expand([p.shape[i] if i == d else n for i, n in enumerate(lead)]) for t, p in zip(tensors, parts, strict=True)]
        return torch.cat(sized, dim=d)

    with torch.no_grad():
        m = Moments(*(_trimmed(run([getattr(p.moments, f) for p in parts])) for f in Moments._fields))
    knobs = {p.knob for p in parts}
    knob: Knob | None = knobs.pop() if len(knobs) == 1 else None
    return Signal(call.shape, roles, m, run([p.carrier for p in parts]), knob=knob)


def _known_part(call: Call, i: int) -> Signal:
    """A part without a signal: a constant."""
    name = next(k for k, v in call.node.arguments.items() if isinstance(v, (list, tuple)))
    known = call.graph.values[call.node.arguments[name][i].id].known
    if known is None:
        from stepzero.errors import NoRuleError

        raise NoRuleError(f"{call.op} (at {call.where}) joins a tensor of unknown numbers (part {i})")
    return constant(known)


def updated(call: Call) -> Signal:
    """A write through a view: the elements that the written tensor overlaps are replaced."""
    old, new = call.need("old"), call.need("new")
    numel = int(call.argument("numel"))

    def run(a: Tensor, b: Tensor) -> Tensor:
        flat = torch.zeros(numel, dtype=torch.float64)
        size, stride, offset = call.argument("old_geometry")
        other = call.argument("new_geometry")
        flat = flat.as_strided_scatter(old.full(a).contiguous(), size, stride, offset)
        flat = flat.as_strided_scatter(new.full(b).contiguous(), *other)
        return flat.as_strided(size, stride, offset)

    with torch.no_grad():
        m = Moments(*(_trimmed(run(a, b)) for a, b in zip(old.moments, new.moments, strict=True)))
    roles = old.roles if any(old.roles) else new.roles
    return Signal(call.shape, roles, m, run(old.carrier, new.carrier))
