"""Rules for data movement: the op itself runs on every moment, and the axes keep track of their roles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from stepzero.moments import _pointwise as P
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._signal import Moments, Signal, lean, ranked

Roling = Callable[[Call, Signal], R.Roles]
ALONG = frozenset(
    ("select", "unbind", "slice", "narrow", "chunk", "split", "split_with_sizes")
)  # ops along `dim` alone
PADS = frozenset(("pad", "constant_pad_nd", "im2col"))  # moves that put zeros in
HUGE = 1 << 20  # elements of a moment map that no function is evaluated on where fewer would do


def unchanged(call: Call) -> Signal:
    """Copies, casts and aliases: the same numbers."""
    return call.operand(call.main)


def moves(roles: Roling) -> Rule:
    """Make the rule of an op that only moves elements, so that it commutes with a pending pointwise function."""

    def rule(call: Call) -> Signal | tuple[Signal | None, ...]:
        x = call.operand(call.main)
        if roles is reshaped and x.source is not None and _swells(x.source.root, call.shape):
            x = Signal(x.shape, x.roles, x.moments, x.tangent, centred=x.centred, stream=x.stream)
        root, phi = P.root_of(x)
        parts = moved(call, root, roles)
        if x.source is not None:
            parts = [P.pending(part, phi) for part in parts]
        elif roles is reshaped and _merges(x.roles, parts[0].roles):
            parts = [_coarser(part) for part in parts]
        return parts[0] if len(parts) == 1 else tuple(parts)

    return rule


def _swells(x: Signal, shape: Sequence[int]) -> bool:
    """Say whether a reshape writes out so many copies of a lean map that a function had better be evaluated before."""
    before = max(x.moments, key=Tensor.numel)
    after = _reshaped(x, before.to("meta"), shape).numel()
    return after > HUGE and after > before.numel()


def _merges(before: R.Roles, after: R.Roles) -> bool:
    """Say whether places became part of the channels, and others remain (patch merging)."""
    mixed = [axis for axis in after if {"channel", "position"} <= R.of(axis)]
    return (
        bool(mixed) and not any({"channel", "position"} <= R.of(a) for a in before) and bool(R.axes(after, "position"))
    )


def _coarser(x: Signal) -> Signal:
    """The next place is farther away than it was: half of what near places had in common beyond others is left."""
    m, tangent = x.mapped(lambda m: m._replace(near=(m.near + m.elsewhere) / 2))
    return Signal(x.shape, x.roles, m, tangent, knob=x.knob, centred=x.centred, known=x.known)


def moved(call: Call, x: Signal, roles: Roling) -> list[Signal]:
    """Run the op on every moment and on the tangent; several outputs give several signals."""

    def run(t: Tensor) -> list[Tensor]:
        if t.numel() == 1 and call.op not in PADS:  # alike everywhere, and so it stays
            return [t.reshape((1,) * len(shape)) for shape in call.shapes]
        if roles is reshaped:
            return [_reshaped(x, t, call.shape)]
        return listed(call.run(**{call.main: written(call, x, t, roles)}))

    with torch.no_grad():
        moments = _columns(x.moments, lambda t: [trimmed(part) for part in run(t)])
    tangents: Sequence[Moments | None] = [None] * len(moments)
    if x.tangent is not None:
        tangents = _columns(x.tangent, lambda t: [lean(part) for part in run(t)])
    known = listed(call.run(**{call.main: x.known})) if x.known is not None else [None] * len(moments)
    axes = roles(call, x)
    return [
        Signal(shape, _fitted(axes, shape), m, matched(c, m), knob=x.knob, centred=x.centred, known=numbers)
        for shape, m, c, numbers in zip(call.shapes, moments, tangents, known, strict=True)
    ]


def _columns(m: Moments, run: Callable[[Tensor], list[Tensor]]) -> list[Moments]:
    """Run an op of one or several outputs on each moment once; return the moments of each output."""
    done: dict[int, list[Tensor]] = {}
    for t in m:
        if id(t) not in done:
            done[id(t)] = run(t)
    return [Moments(*parts) for parts in zip(*(done[id(t)] for t in m), strict=True)]


def _fitted(axes: R.Roles, shape: Sequence[int]) -> R.Roles:
    return tuple(R.resize(axis, n) for axis, n in zip(axes, shape, strict=True))


def written(call: Call, x: Signal, t: Tensor, roles: Roling | None = None) -> Tensor:
    """Write out the axes that the op looks at: none of a permutation, its own of an op along one axis or of a border, otherwise all."""
    axes: Iterable[int] = range(len(x.shape))
    d, pads, shifted = call.argument("dim"), call.argument("pad", call.argument("padding")), call.argument("dims")
    if roles is permuted or (call.op in ("roll", "flip") and shifted):  # one element that is rolled stays where it is
        axes = ()
    elif call.op in ALONG and isinstance(d, int):
        axes = (d % len(x.shape),)
    elif "pad" in call.op and pads:
        axes = [len(x.shape) - 1 - i // 2 for i, n in enumerate(pads) if n]
    t = ranked(t, len(x.shape))
    return t.expand([n if d in axes else t.shape[d] for d, n in enumerate(x.shape)])


def _reshaped(x: Signal, t: Tensor, shape: Sequence[int]) -> Tensor:
    """Reshape a lean tensor; axes that are merged or split stay of size 1 where all of them are."""
    t = ranked(t, len(x.shape))
    sizes: list[int] = []
    for old, new in R.matched(x.shape, shape):
        full, have = x.shape[old], t.shape[old]
        if prod(have) == 1:
            sizes += [1] * (new.stop - new.start)
            continue
        sizes += shape[new]
        if full != have:
            t = t.expand(*t.shape[: old.start], *full, *t.shape[old.stop :])
    return t.reshape(sizes)


def listed(result: Any) -> list[Tensor]:
    """Return an op's result as a list."""
    return [result] if isinstance(result, Tensor) else list(result)


def trimmed(t: Tensor) -> Tensor:
    """Drop axes along which nothing changes, by stride or by value."""
    t = lean(t)
    for d in range(t.dim()):
        if t.shape[d] > 1 and bool((t == t.narrow(d, 0, 1)).all()):
            t = t.narrow(d, 0, 1)
    return t.clone() if t._base is not None else t


def matched(tangent: Moments | None, m: Moments) -> Moments | None:
    """Trim the tangent along axes on which no moment changes: there gradients are alike too."""
    if tangent is None:
        return None
    constant = [d for d in range(max(t.dim() for t in m)) if all(t.dim() == 0 or t.shape[d] == 1 for t in m)]

    def narrow(t: Tensor) -> Tensor:
        for d in constant:
            if t.dim() and t.shape[d] > 1:
                t = Representative.apply(t, d)  # type: ignore[no-untyped-call]
        return t

    return tangent.each(narrow)


class Representative(torch.autograd.Function):
    """One element for many alike; backward hands each an equal share (narrow alone would give one all)."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, d: int) -> Tensor:
        """Return the first slice along an axis."""
        ctx.d, ctx.n = d, t.shape[d]
        return t.narrow(d, 0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Spread the gradient evenly."""
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


def unfolded(call: Call, x: Signal) -> R.Roles:
    """Windows along an axis (Tensor.unfold): the axis counts windows, a new last axis the places in one."""
    d = int(call.argument("dimension", 0)) % len(x.shape)
    role: R.Role = x.roles[d][0][1] if x.roles[d] else "position"
    return (*x.roles[:d], R.single(call.shape[d], role), *x.roles[d + 1 :], R.single(call.shape[-1], role))


def patches(call: Call, x: Signal) -> R.Roles:
    """im2col: a window's places join the channels; what is left are the windows."""
    places = call.shape[1] // x.shape[1]
    inside = (*R.single(x.shape[1], "channel"), *R.single(places, "position"))
    return (x.roles[0], inside, R.single(call.shape[2], "position"))


def gathered(call: Call) -> Signal:
    """Elements picked by numbers that depend on data: the average element."""
    x = call.operand(call.main)
    m, tangent = x.mapped(lambda m: m.each(lambda t: t.mean().reshape((1,) * len(call.shape))))
    usual = R.guess(call.shape, channel_last=bool(x.roles) and R.is_all(x.roles[-1], "channel"))
    same_rank = len(call.shape) == len(x.shape)
    roles = (
        tuple(R.resize(a, n) if a else u for a, n, u in zip(x.roles, call.shape, usual, strict=True))
        if same_rank
        else usual
    )
    return Signal(call.shape, roles, m, tangent)


def selected(call: Call) -> Signal | tuple[Signal | None, ...] | None:
    """Rows picked by numbers: where these depend on data, each is the average row."""
    if call.graph.values[call.node.arguments["index"].id].known is not None:
        return moves(same)(call)
    x, d = call.operand(call.main), int(call.argument("dim"))

    def average(t: Tensor) -> Tensor:
        return ranked(t, len(x.shape)).mean(d, keepdim=True)

    m, tangent = x.mapped(lambda m: m.each(average))
    return Signal(call.shape, _fitted(x.roles, call.shape), m, tangent, knob=x.knob, centred=x.centred)


def pixel_shuffled(call: Call) -> Signal:
    """Channels become places (pixel_shuffle) or places channels: adjacent places now hold channels of their own.

    Of the other places, only those at the same step of the finer grid hold the same channel.
    """
    x = call.operand(call.main)
    lead, (h, w) = x.roles[:-3], call.shape[-2:]
    roles = (*lead, R.single(call.shape[-3], "channel"), R.single(h, "position"), R.single(w, "position"))
    (y,) = moved(call, x, lambda *_: roles)
    before, after = prod(x.shape[-2:]), h * w
    if after <= before:
        return y
    same_channel = (before - 1) / (after - 1)

    def mix(m: Moments) -> Moments:
        square = m.mean**2
        far = (square + same_channel * (t - square) for t in (m.elsewhere, m.apart))
        elsewhere, apart = far
        return m._replace(near=square * torch.ones_like(m.near), elsewhere=elsewhere, apart=apart)

    return Signal(call.shape, roles, *y.mapped(mix))
