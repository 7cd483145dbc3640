"""Rules for ops that put a signal together from parts, or repeat it: expand, repeat, pad, cat, stack, writes through views."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from stepzero.moments import _pointwise as P
from stepzero.moments import _roles as R
from stepzero.moments._call import Call
from stepzero.moments._moves import moved, same, trimmed, written
from stepzero.moments._signal import Knob, Moments, Signal, constant, lean, ranked, widen
from stepzero.moments._stream import Stream
from stepzero.network import Ref


def expanded(call: Call) -> Signal:
    """Repeat axes of size 1: the copies are perfectly alike."""
    x = call.operand(call.main)
    pad = len(call.shape) - len(x.shape)
    sizes, have = (1,) * pad + x.shape, ((),) * pad + x.roles
    usual = R.guess(call.shape, channel_last=_channel_last(x.roles))
    roles = tuple(
        axis if own == size else (usual[i] if size > 1 else ())
        for i, (axis, own, size) in enumerate(zip(have, sizes, call.shape, strict=True))
    )
    y = widen(x, call.shape, roles)
    return x if y is x else Signal(y.shape, y.roles, y.moments, y.tangent, knob=x.knob, known=x.known)


def _channel_last(roles: R.Roles) -> bool:
    return bool(roles) and R.is_all(roles[-1], "channel")


def repeated(call: Call) -> Signal:
    """Tile what differs along an axis; the copies of a place are taken as other places."""
    x = call.operand(call.main)
    axes = ((),) * (len(call.shape) - len(x.shape)) + x.roles
    usual = R.guess(call.shape, channel_last=_channel_last(x.roles))
    sized = zip(axes, usual, call.shape, strict=True)
    roles = tuple(R.resize(axis, n) if axis else other for axis, other, n in sized)

    m, tangent = x.mapped(lambda m: m.each(lambda t: _tiled(call, x, t)))
    return Signal(call.shape, roles, m.each(trimmed), tangent)


def _tiled(call: Call, x: Signal, t: Tensor) -> Tensor:
    """Repeat a lean tensor where it differs: copies of what is alike along an axis are alike."""
    d = call.argument("dim")
    if call.op == "repeat_interleave":
        if not isinstance(d, int):
            return lean(call.run(**{call.main: x.full(t)}))
        t = ranked(t, len(x.shape))
        return t if t.shape[d] == 1 else call.run(**{call.main: t})
    t = ranked(t, len(call.shape))
    times = list(call.argument("repeats") or call.argument("dims"))
    times = [1] * (t.dim() - len(times)) + times
    return t.repeat([n if have > 1 else 1 for n, have in zip(times, t.shape, strict=True)])


def padded(call: Call) -> Signal:
    """Padding: reflect, replicate and circular move values; a constant c has mean c, and c² everywhere else.

    −∞ keeps a border out of a maximum, and the rule of max pools leaves it out. Its places have no moments: they stand for
    the nearest of the map.
    """
    x = call.operand(call.main)
    value = float(call.argument("value") or 0.0)
    if value == -math.inf:
        return _bordered(call, x)
    if call.argument("mode", "constant") != "constant" or not value:
        return moved(call, x, same)[0]
    m = x.moments
    mean = trimmed(call.run(**{call.main: written(call, x, m.mean)}))
    rest = (trimmed(call.run(**{call.main: written(call, x, t), "value": value**2})) for t in m[1:])
    tangent = None
    if x.tangent is not None:
        tangent = x.tangent.each(lambda t: lean(call.run(**{call.main: written(call, x, t), "value": 0.0})))
    roles = tuple(R.resize(axis, n) for axis, n in zip(x.roles, call.shape, strict=True))
    return Signal(call.shape, roles, Moments(mean, *rest), tangent)


def _bordered(call: Call, x: Signal) -> Signal:
    """Repeat the border of a map."""
    pads = list(call.argument("pad"))

    def repeat(t: Tensor) -> Tensor:
        return lean(functional.pad(x.full(t), pads, mode="replicate"))

    roles = tuple(R.resize(axis, n) for axis, n in zip(x.roles, call.shape, strict=True))
    m, tangent = x.mapped(lambda m: m.each(repeat))
    return Signal(call.shape, roles, m.each(trimmed), tangent)


def joined(call: Call) -> Signal:
    """cat and stack: side by side; operands with the same pending function stay pending."""
    name = next(k for k, v in call.node.arguments.items() if isinstance(v, (list, tuple)))
    parts = [p for p in call.operands(name) if 0 not in p.shape]
    keys = {P.root_of(p)[1].key for p in parts}
    if len(keys) == 1 and parts[0].source is not None:
        return P.pending(_joined(call, [P.root_of(p)[0] for p in parts]), P.root_of(parts[0])[1])
    return _joined(call, parts)


def _joined(call: Call, parts: Sequence[Signal]) -> Signal:
    join = _stacking(call, parts) if call.op == "stack" else _concatenation(call, parts)
    m = Moments(*(trimmed(join([getattr(p.moments, f) for p in parts])) for f in Moments._fields))
    tangent = None
    if any(p.tangent is not None for p in parts):
        nothing = torch.zeros((), dtype=torch.float64)
        changes = [Moments(*(nothing,) * 6) if p.tangent is None else p.tangent for p in parts]
        tangent = Moments(*(join([getattr(c, f) for c in changes]) for f in Moments._fields))
    knobs = {p.knob for p in parts}
    knob: Knob | None = knobs.pop() if len(knobs) == 1 else None
    shares = [prod(p.shape) / prod(call.shape) for p in parts]
    stream = Stream(sum(share * p.skewness for share, p in zip(shares, parts, strict=True)))
    return Signal(call.shape, _joined_roles(call, parts), m, tangent, knob=knob, stream=stream)


def _stacking(call: Call, parts: Sequence[Signal]) -> Callable[[Sequence[Tensor]], Tensor]:
    """Stack at the least common size: axes on which no part varies stay lean."""
    first = parts[0].shape
    d = int(call.argument("dim", 0)) % (len(first) + 1)

    def join(tensors: Sequence[Tensor]) -> Tensor:
        full = [ranked(t, len(first)) for t in tensors]
        lead = [max(t.shape[i] for t in full) for i in range(len(first))]
        return torch.stack([t.expand(lead) for t in full], dim=d)

    return join


def _concatenation(call: Call, parts: Sequence[Signal]) -> Callable[[Sequence[Tensor]], Tensor]:
    """Join at the least common size: axes on which no part varies stay lean."""
    rank = len(call.shape)
    d = int(call.argument("dim", 0)) % rank

    def join(tensors: Sequence[Tensor]) -> Tensor:
        full = [ranked(t, rank) for t in tensors]
        lead = [max(t.shape[i] for t in full) for i in range(rank)]
        sized = [t.expand([*lead[:d], p.shape[d], *lead[d + 1 :]]) for t, p in zip(full, parts, strict=True)]
        return torch.cat(sized, dim=d)

    return join


def _joined_roles(call: Call, parts: Sequence[Signal]) -> R.Roles:
    """Roles of the part that knows most about its axes (a table knows nothing); the joined axis keeps its first role."""
    first = max(parts, key=lambda p: sum(bool(a) and not R.is_all(a, "copy") for a in p.roles))
    if call.op == "stack":
        d = int(call.argument("dim", 0)) % (len(first.shape) + 1)
        return (*first.roles[:d], R.single(call.shape[d], "channel"), *first.roles[d:])
    d = int(call.argument("dim", 0)) % len(first.shape)
    usual = R.guess(call.shape, channel_last=_channel_last(first.roles))
    axes = [a if a else usual[i] for i, a in enumerate(first.roles)]
    return tuple(R.resize(a, n) if n > 1 else () for a, n in zip(axes, call.shape, strict=True))


def updated(call: Call) -> Signal:
    """A write through a view: the elements that the written tensor overlaps are replaced."""
    old, new = _base(call), call.operand("new")
    geometry, other = call.argument("old_geometry"), call.argument("new_geometry")
    nothing = torch.zeros((), dtype=torch.float64)

    def run(a: Tensor, b: Tensor) -> Tensor:
        flat = torch.zeros(int(call.argument("numel")), dtype=torch.float64)
        flat = flat.as_strided_scatter(old.full(a).contiguous(), *geometry)
        flat = flat.as_strided_scatter(new.full(b).contiguous(), *other)
        return flat.as_strided(*geometry)

    m = Moments(*(trimmed(run(a, b)) for a, b in zip(old.moments, new.moments, strict=True)))
    tangent = None
    if old.tangent is not None or new.tangent is not None:
        changes = [s.tangent or Moments(*(nothing,) * 6) for s in (old, new)]
        tangent = Moments(*(run(a, b) for a, b in zip(*changes, strict=True)))
    return Signal(call.shape, _overwritten_roles(old, new), m, tangent)


def _base(call: Call) -> Signal:
    """Return what is written over; memory that nobody has written to counts as zeros until it is."""
    ref = call.node.arguments["old"]
    value, maker = call.graph.values[ref.id], call.graph.producer(ref.id)
    if ref.id not in call.signals and value.known is None and maker is not None and maker.op in EMPTY:
        return constant(torch.zeros((), dtype=torch.float64).expand(value.shape))
    return call.operand("old")


EMPTY = frozenset(("empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided"))


def _overwritten_roles(old: Signal, new: Signal) -> R.Roles:
    """Numbers that a signal overwrites (a buffer of zeros) know nothing of their axes: the signal's last axes decide."""
    lead = len(old.roles) - len(new.roles)
    if old.known is None or lead < 0:
        return old.roles if any(old.roles) else new.roles
    usual = R.guess(old.shape, channel_last=_channel_last(new.roles))
    axes = zip(((),) * lead + new.roles, usual, old.shape, strict=True)
    return tuple(R.resize(axis, n) if axis else other for axis, other, n in axes)


def indexed(call: Call) -> Signal:
    """Pick elements by known indices (relative position biases); by unknown ones, take averages."""
    x = call.operand(call.main)
    refs = [r for r in call.node.arguments["indices"] if isinstance(r, Ref)]
    known = all(call.graph.values[r.id].known is not None for r in refs)

    def run(t: Tensor) -> Tensor:
        if not known or t.numel() == 1:
            return t.mean().reshape((1,) * len(call.shape))
        return lean(call.run(**{call.main: x.full(t)}))

    m, tangent = x.mapped(lambda m: m.each(run))
    weight = x.knob is not None
    roles = R.same(call.shape, "copy") if weight else R.guess(call.shape, channel_last=_channel_last(x.roles))
    return Signal(call.shape, roles, m.each(trimmed), tangent, knob=x.knob)


def copied(call: Call) -> Signal:
    """copy_: the source, broadcast to the shape of what it overwrites."""
    x = call.operand("src")
    usual = R.guess(call.shape, channel_last=_channel_last(x.roles))
    sizes = (1,) * (len(call.shape) - len(x.shape)) + x.shape
    have = ((),) * (len(call.shape) - len(x.shape)) + x.roles
    roles = tuple(a if own == n else u for a, own, n, u in zip(have, sizes, call.shape, usual, strict=True))
    return widen(x, call.shape, roles)


def filled(call: Call) -> Signal:
    """fill_ and zero_: one number everywhere."""
    value = call.argument("value", 0.0)
    number = call.operand("value").mean if isinstance(value, Ref) else torch.tensor(float(value))
    x = constant(number.double().reshape((1,) * len(call.shape)))
    return Signal(call.shape, R.guess(call.shape), x.moments, known=number.double().expand(call.shape))
