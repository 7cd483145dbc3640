"""Rules for elements that are written, added or merged at places that numbers name: known ones, or such as depend on data."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._choices import picked
from stepzero.moments._joins import multiply, summed
from stepzero.moments._moves import trimmed
from stepzero.moments._signal import Moments, Signal, ranked, widen
from stepzero.network import Ref


def merged(call: Call) -> Signal:
    """masked_scatter: the source's elements in order where the mask is set (image tokens among words); each is taken as the average one.

    A mask that depends on data is taken to be set for as many elements as the source has.
    """
    x, source = call.operand("self"), call.operand("source")
    flat = Signal(
        call.shape,
        R.guess(call.shape),
        *source.mapped(lambda m: m.each(lambda t: t.mean().reshape((1,) * len(call.shape)))),
    )
    known = call.graph.values[call.node.arguments["mask"].id].known
    if known is not None:
        return picked(call, known, Signal(call.shape, x.roles, flat.moments, flat.tangent), x)
    return _mixed(call, x, flat, min(1.0, prod(source.shape) / prod(call.shape)))


def written_at(call: Call) -> Signal:
    """scatter: by known numbers, exact; by others, every element of the axis is as likely to be written over."""
    if "reduce" in call.node.arguments and call.argument("reduce") is not None:
        raise NoRuleError(f"{call.op} (at {call.where}) that reduces has no rule")
    x, value = call.operand("self"), call.argument("value")
    if not bool(torch.isfinite(x.second).all()):
        raise NoRuleError(
            f"{call.op} (at {call.where}) into numbers that are not finite, at places that depend on data, has no rule"
        )
    index = call.graph.values[call.node.arguments["index"].id]
    one = torch.ones((1,) * len(call.shape), dtype=torch.float64)
    if value is None and index.known is not None:
        return _written(call, x, call.operand("src"), "src")
    if value is None:
        source = call.operand("src")
        flat = Signal(call.shape, source.roles, *source.mapped(lambda m: m.each(lambda t: t.mean() * one)))
    else:
        flat = Signal(call.shape, x.roles, Moments(one * float(value), *(one * float(value) ** 2,) * 5))
    return _mixed(call, x, flat, min(1.0, prod(index.shape) / prod(call.shape)))


def put_at(call: Call) -> Signal:
    """index_put: at known places, exact; at others, in as many as there are values, each as likely."""
    x, source = call.operand("self"), call.operand("values")
    if call.argument("accumulate"):
        raise NoRuleError(f"{call.op} (at {call.where}) that accumulates has no rule")
    refs = [ref for ref in call.node.arguments["indices"] if isinstance(ref, Ref)]
    if all(call.graph.values[ref.id].known is not None for ref in refs):
        return _written(call, x, source, "values")
    if not bool(torch.isfinite(x.second).all()) or not bool(torch.isfinite(source.second).all()):
        raise NoRuleError(
            f"{call.op} (at {call.where}) with numbers that are not finite, at places that depend on data, has no rule"
        )
    one = (1,) * len(call.shape)
    flat = Signal(call.shape, x.roles, *source.mapped(lambda m: m.each(lambda t: t.mean().reshape(one))))
    return _mixed(call, x, flat, min(1.0, prod(source.shape) / prod(call.shape)))


def _written(call: Call, x: Signal, source: Signal, name: str) -> Signal:
    def run(p: Tensor, q: Tensor) -> Tensor:
        return trimmed(call.run(self=x.full(p).contiguous(), **{name: source.full(q).contiguous()}))

    zero = torch.zeros((), dtype=torch.float64)
    change = None
    if x.tangent is not None or source.tangent is not None:
        old, new = (s.tangent or Moments(*(zero,) * 6) for s in (x, source))
        change = Moments(*map(run, old, new))
    return Signal(
        call.shape, x.roles if any(x.roles) else source.roles, Moments(*map(run, x.moments, source.moments)), change
    )


def _mixed(call: Call, x: Signal, source: Signal, share: float) -> Signal:
    """Return what is one signal in a share of all elements, at random places, and another elsewhere."""
    rank, roles = len(call.shape), R.broadcast(*sorted((x.roles, source.roles), key=len, reverse=True))
    a, b = (widen(s, call.shape, roles) for s in (source, x))
    m, n = a.moments.ranked(rank), b.moments.ranked(rank)
    cross = 2 * share * (1 - share) * m.mean * n.mean
    pairs = (share**2 * p + (1 - share) ** 2 * q + cross for p, q in zip(m[2:], n[2:], strict=True))
    moments = Moments(share * m.mean + (1 - share) * n.mean, share * m.second + (1 - share) * n.second, *pairs)
    factors = (
        Moments(*(torch.tensor(f, dtype=torch.float64) for f in (1.0, s, *(s * s,) * 4))) for s in (share, 1 - share)
    )
    return Signal(call.shape, roles, moments, summed(list(zip((a.tangent, b.tangent), factors, strict=True))))


def added_at(call: Call) -> Signal:
    """index_add, scatter_add: rows add to those that numbers name; where these depend on data, each gets as many as there are on average.

    What is added is taken as independent of what it is added to, and of what else is.
    """
    x, source = call.operand("self"), call.operand("source" if call.op == "index_add" else "src")
    d = int(call.argument("dim")) % len(call.shape)
    alpha = float(call.argument("alpha") or 1.0)
    count = (
        call.graph.values[call.node.arguments["index"].id].shape[d if call.op == "scatter_add" else 0] / call.shape[d]
    )

    def spread(t: Tensor) -> Tensor:
        total: Tensor = ranked(t, len(source.shape)).mean(d, keepdim=True) * (count * alpha**2)
        return total

    m, change = source.mapped(lambda m: Moments(m.mean, *(spread(t) for t in m[1:])))
    mean = ranked(source.mean, len(source.shape)).mean(d, keepdim=True) * count * alpha
    n = x.moments.ranked(len(call.shape))
    cross = 2 * mean * n.mean + mean**2 * (1.0 - 1.0 / max(count, 1.0))
    moments = Moments(mean + n.mean, *(p + q + cross for p, q in zip(m[1:], n[1:], strict=True)))
    knowing = x if x.known is None else source  # a buffer of zeros knows nothing of its axes
    roles = tuple(R.resize(axis, k) for axis, k in zip(knowing.roles, call.shape, strict=True))
    return Signal(call.shape, roles, moments.each(trimmed), summed([(x.tangent, 1.0), (change, 1.0)]))


def outer(call: Call) -> Signal:
    """a bᵀ of two vectors: products of independent elements."""
    a, b = call.operand("self"), call.operand("vec2" if "vec2" in call.node.arguments else "other")
    roles = (*a.roles, *b.roles)
    column = Signal((*a.shape, 1), (*a.roles, ()), *a.mapped(lambda m: m.each(lambda t: ranked(t, 1)[:, None])))
    row = Signal((1, *b.shape), ((), *b.roles), *b.mapped(lambda m: m.each(lambda t: ranked(t, 1)[None])))
    return multiply(call, widen(column, call.shape, roles), widen(row, call.shape, roles))


def folded(call: Call) -> Signal:
    """col2im: windows that overlap add up. Members of a place are alike as other places are, if im2col made them, or else as channels are."""
    x, channels = call.operand("self"), call.shape[-3]
    window = x.shape[-2] // channels  # places of one, which the second-last axis holds for each channel
    places = "position" in R.of(x.roles[-2])

    def run(t: Tensor) -> Tensor:
        t = ranked(t, len(x.shape))
        lead = 1 if t.shape[-2] == 1 else channels
        y: Tensor = call.run(self=t.expand(*t.shape[:-2], lead * window, x.shape[-1]))
        return y

    def total(m: Moments) -> Moments:
        more = (run(torch.ones((1,) * len(x.shape), dtype=torch.float64)) - 1.0).clamp_min(
            0.0
        )  # run(t) is (more + 1)·t
        other, foreign = (more * run(t) for t in ((m.elsewhere, m.apart) if places else (m.mean**2,) * 2))
        near, elsewhere = run(m.near) + other, run(m.elsewhere) + other
        return Moments(
            run(m.mean), run(m.second) + other, near, elsewhere, run(m.across) + foreign, run(m.apart) + foreign
        )

    m, change = x.mapped(total)
    return Signal(call.shape, R.guess(call.shape), m.each(trimmed), change)


ROUTES: dict[str, Rule] = {
    "col2im": folded,
    "index_put": put_at,
    "masked_scatter": merged,
    "scatter": written_at,
    **dict.fromkeys(("index_add", "scatter_add"), added_at),
    **dict.fromkeys(("ger", "outer"), outer),
}
