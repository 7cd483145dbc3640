"""Arithmetic on draws: what a sum, a product, a quotient, a bound or a function of them contains."""

from __future__ import annotations

import math

from stepzero.laws import Normal, Uniform
from stepzero.network._contents import (
    Content,
    Cut,
    Directions,
    Drawn,
    Erfinv,
    Factor,
    Lengths,
    Orthogonal,
    Unread,
    mapped,
    number,
    scaled,
    settled,
    shifted,
)
from stepzero.network._graph import Graph, Node, Ref
from stepzero.network._reader import Reader, Rule


def function(*steps: tuple[str, float] | tuple[str]) -> Rule:
    """Return the rule of an op that is computed element by element."""

    def rule(reader: Reader, node: Node) -> Content:
        if reader.graph.values[node.outputs[0]].dtype.is_complex:
            return Unread(f"{node.op} of complex numbers")
        return mapped(reader.argument(node, "self"), *steps)

    return rule


def power(reader: Reader, node: Node) -> Content:
    """A power with a constant exponent of `POWERS`."""
    exponent = number(reader.of(node.arguments.get("exponent")))
    if exponent not in POWERS:
        return Unread(f"a power of {exponent}")
    return function((POWERS[exponent],))(reader, node)


POWERS = {2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}


def erfinv(reader: Reader, node: Node) -> Content:
    source = reader.argument(node, "self")
    if isinstance(source, Drawn) and isinstance(source.law, Uniform):
        return Erfinv(1.0, source.law.low, source.law.high)
    return Unread("erfinv of what is not uniform")


def clamp(reader: Reader, node: Node) -> Content:
    """Clamping changes nothing where no more than a millionth of the draws lies beyond: rounding, or ends far out."""
    source = settled(reader.argument(node, "self"))
    if isinstance(source, Drawn) and isinstance(source.law, Normal):
        source = Cut(source.law.mean, source.law.std, -math.inf, math.inf)
    bounds = [node.arguments.get(name) for name in ("min", "max")]
    low, high = (None if a is None else number(reader.of(a)) for a in bounds)
    if any(a is not None and end is None for a, end in zip(bounds, (low, high), strict=True)):
        return Unread("clamped between bounds that differ")
    if isinstance(source, Cut) and source.std > 0:
        ends = [end if end is None else (end - source.mean) / source.std for end in (low, high)]
        below = 0.0 if ends[0] is None else _mass(source.low, ends[0])
        above = 0.0 if ends[1] is None else _mass(ends[1], source.high)
        if below + above <= 1e-6 * _mass(source.low, source.high):
            return source
    if isinstance(source, Lengths) and high is None and low is not None and low < 1e-3:
        return source  # a guard against division by zero
    return mapped(source, ("clamp", low, high))


def _mass(low: float, high: float) -> float:
    """Return the probability of N(0, 1) between two ends."""
    return max(0.0, (math.erf(high / math.sqrt(2.0)) - math.erf(low / math.sqrt(2.0))) / 2)


def times(reader: Reader, node: Node) -> Content:
    a, b = reader.argument(node, "self"), reader.argument(node, "other")
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Factor) and isinstance(other, Factor) and (one.part, other.part) == ("q", "sign"):
            return Orthogonal(1.0, one.sides)
        factor = number(other)
        if factor is not None:
            return scaled(one, factor)
    return a if isinstance(a, Unread) else Unread("a product of tensors")


def over(reader: Reader, node: Node) -> Content:
    a, b = reader.argument(node, "self"), reader.argument(node, "other")
    dividend, divisor = number(a), number(b)
    if node.arguments.get("rounding_mode"):
        return Unread("a quotient of tensors that is rounded")
    if divisor:
        return scaled(a, 1.0 / divisor)
    if dividend is not None:
        return scaled(mapped(b, ("reciprocal",)), dividend)
    if isinstance(b, Lengths) and isinstance(node.arguments["self"], Ref) and b.of == node.arguments["self"].id:
        return _directions(a, b, reader.shape(node.arguments["other"]))
    return a if isinstance(a, Unread) else Unread("a quotient of tensors")


def _directions(a: Content, lengths: Lengths, shape: tuple[int, ...]) -> Content:
    """Normals divided by their own lengths, which were expanded to their shape or are broadcast to it."""
    fits = shape == lengths.shape or beside(lengths, shape)
    if fits and isinstance(a, Drawn) and isinstance(a.law, Normal) and a.law.mean == 0:
        return Directions(1.0, lengths.along)
    return Unread("a draw divided by its length, whose directions are not all alike")


def plus(sign: float) -> Rule:
    def rule(reader: Reader, node: Node) -> Content:
        a, b = reader.argument(node, "self"), reader.argument(node, "other")
        factor = sign * float(node.arguments.get("alpha") or 1)
        if (shift := number(b)) is not None:
            return shifted(a, factor * shift)
        if (shift := number(a)) is not None:
            return shifted(scaled(b, factor), shift)
        if factor == 1 and (inner := _softplus_inverse(reader.graph, node)) is not None:
            return mapped(reader.of(inner), ("softplus_inverse",))
        return _sum_of_normals(reader, a, scaled(b, factor), node)

    return rule


def beside(lengths: Lengths, shape: tuple[int, ...]) -> bool:
    """Say whether lengths of this shape stand beside what they are the lengths of."""
    kept = tuple(1 if axis in lengths.along else size for axis, size in enumerate(lengths.shape))
    return shape == kept or math.prod(shape) == math.prod(kept) == 1


def _softplus_inverse(graph: Graph, node: Node) -> Ref | None:
    """Return x of `x + log(-expm1(-x))`, as time steps of state-space models start."""
    for x, other in (("self", "other"), ("other", "self")):
        value, ops = node.arguments[other], list[str]()
        while isinstance(value, Ref) and len(ops) < 4:
            maker = graph.producer(value.id)
            if maker is None or "self" not in maker.arguments:
                break
            ops.append(maker.op)
            value = maker.arguments["self"]
        if ops == ["log", "neg", "expm1", "neg"] and value == node.arguments[x] and isinstance(value, Ref):
            return value
    return None


def _sum_of_normals(reader: Reader, a: Content, b: Content, node: Node) -> Content:
    """Independent normals add up to a normal; the same draw twice would not."""
    different = not reader.share_a_draw(node.arguments["self"], node.arguments["other"])
    match (a, b):
        case (Drawn(Normal(std, mean)), Drawn(Normal(other, shift))) if different:
            return Drawn(Normal(math.hypot(std, other), mean + shift))
    return next((c for c in (a, b) if isinstance(c, Unread)), Unread("a sum of tensors"))


def rsub(reader: Reader, node: Node) -> Content:
    """other − alpha · self."""
    shift = number(reader.argument(node, "other"))
    factor = -float(node.arguments.get("alpha") or 1)
    a = reader.argument(node, "self")
    return shifted(scaled(a, factor), shift) if shift is not None else Unread("a difference of tensors")


def negative(reader: Reader, node: Node) -> Content:
    return scaled(reader.argument(node, "self"), -1.0)
