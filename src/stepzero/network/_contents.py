"""What a constructor put into a tensor, read from the graph of its ops: laws, numbers, or a mixture of both.

Every op that initialisation is made of has one rule: what its result contains, given what its arguments contain. What no rule
covers is `Unread`, with the op and the line: it is never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from stepzero.laws import Constant, Dirac, Identity, Law, Normal, TruncatedNormal, Uniform
from stepzero.laws import Orthogonal as OrthogonalLaw
from stepzero.laws import Sparse as SparseLaw
from stepzero.network._graph import Graph, Node, Ref, Value


@dataclass(frozen=True, slots=True)
class Unread:
    """Contents that no rule covers."""

    reason: str


@dataclass(frozen=True, slots=True)
class Empty:
    """Memory that nobody has written to."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Values that follow from constants."""

    tensor: torch.Tensor


@dataclass(frozen=True, slots=True)
class Drawn:
    """Independent elements of one law."""

    law: Law


@dataclass(frozen=True, slots=True)
class Cut:
    """A normal restricted to [low, high] of its standard deviations, by the settings of the normal itself."""

    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Erfinv:
    """erfinv of U(low, high): a standard normal over √2, restricted."""

    scale: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Factor:
    """A part of the QR decomposition of a standard normal matrix: "q", "r", "diagonal" or "sign"."""

    part: str
    sides: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Orthogonal:
    """A uniformly distributed (semi-)orthogonal matrix times `gain`."""

    gain: float
    sides: tuple[int, ...]  # rows and columns, the smaller first


@dataclass(frozen=True, slots=True)
class Zeroed:
    """Independent normal elements, some of each column set to zero at random places."""

    std: float
    zeros: int
    columns: frozenset[int]


VECTOR = frozenset({-1})  # the columns of what is one column itself


@dataclass(frozen=True, slots=True)
class Mixed:
    """Contents that differ between regions: a base, and boxes written over it in order."""

    base: Content
    boxes: tuple[tuple[tuple[slice, ...], Content], ...]


Content = Unread | Empty | Numbers | Drawn | Cut | Erfinv | Factor | Orthogonal | Zeroed | Mixed
Rule = Callable[["Reader", Node], Content]


class Reader:
    """Reads the contents of values, each once."""

    def __init__(self, graph: Graph, unsure: Mapping[int, str]) -> None:
        self.graph, self.unsure = graph, unsure  # constants that came from another library's generator
        self._read: dict[int, Content] = {}

    def content(self, value: int) -> Content:
        """Return what a value contains. The graph is walked without recursion: constructors may write in long loops."""
        pending = [value]
        while pending:
            missing = [v for v in self._needs(pending[-1]) if v not in self._read]
            if missing:
                pending += missing
            else:
                done = pending.pop()
                self._read[done] = self._one(self.graph.values[done])
        return self._read[value]

    def argument(self, node: Node, name: str) -> Content:
        """Return what an argument contains; a number is a constant."""
        return self.of(node.arguments[name])

    def of(self, argument: Any) -> Content:
        """Return the contents behind a reference, or a number as a constant."""
        if isinstance(argument, Ref):
            return self._read[argument.id]
        return Drawn(Constant(float(argument))) if isinstance(argument, (int, float)) else Unread("not a number")

    def shape(self, argument: Ref) -> tuple[int, ...]:
        """Return the shape of a referred value."""
        return self.graph.values[argument.id].shape

    def _needs(self, value: int) -> list[int]:
        node = self.graph.producer(value)
        if node is None or self.graph.values[value].known is not None:
            return []
        return [ref.id for argument in node.arguments.values() for ref in _refs(argument)]

    def _one(self, value: Value) -> Content:
        if value.id in self.unsure:
            return Unread(self.unsure[value.id])
        if value.known is not None:
            return Numbers(value.known)
        if value.node is None:
            return Unread(f"a tensor of shape {value.shape} came from outside, without numbers")
        node = self.graph.nodes[value.node]
        rule = RULES.get(node.op)
        if rule is None:
            return Unread(f"{node.op} is no op of a law ({node.line})")
        found = rule(self, node)
        if isinstance(found, Unread) and not found.reason.endswith(")"):
            return Unread(f"{found.reason} ({node.line})")
        return Factor("r") if isinstance(found, Factor) and found.part == "q" and value.index == 1 else found


def _refs(argument: Any) -> list[Ref]:
    if isinstance(argument, Ref):
        return [argument]
    return [r for part in argument for r in _refs(part)] if isinstance(argument, (tuple, list)) else []


# Arithmetic on contents


def scaled(content: Content, factor: float) -> Content:
    """Return the contents times a number."""
    match content:
        case Drawn(law):
            return _scaled_law(law, factor)
        case Cut(mean, std, low, high):
            ends = (low, high) if factor >= 0 else (-high, -low)
            return Cut(mean * factor, std * abs(factor), *ends)
        case Erfinv(scale, low, high):
            return Erfinv(scale * factor, low, high)
        case Orthogonal(gain, sides):
            return Orthogonal(gain * abs(factor), sides)  # −Q is as uniform as Q
        case Zeroed(std, zeros, columns):
            return Zeroed(std * abs(factor), zeros, columns)
        case Mixed(base, boxes):
            return Mixed(scaled(base, factor), tuple((box, scaled(part, factor)) for box, part in boxes))
        case Numbers(tensor):
            return Numbers(tensor * factor)
        case Empty():
            return content
        case Factor(part):
            return Unread(f"the {part} of a QR decomposition was scaled")
    return content


def _scaled_law(law: Law, factor: float) -> Content:
    if isinstance(law, Normal):
        return Drawn(Normal(law.std * abs(factor), law.mean * factor))
    if isinstance(law, Uniform):
        return Drawn(Uniform(*sorted((law.low * factor, law.high * factor))))
    if isinstance(law, Constant):
        return Drawn(Constant(law.value * factor))
    return Unread(f"{law} was scaled")


def shifted(content: Content, by: float) -> Content:
    """Return the contents plus a number."""
    match content:
        case Drawn(Normal(std, mean)):
            return Drawn(Normal(std, mean + by))
        case Drawn(Uniform(low, high)):
            return Drawn(Uniform(low + by, high + by))
        case Drawn(Constant(value)):
            return Drawn(Constant(value + by))
        case Cut(mean, std, low, high):
            return Cut(mean + by, std, low, high)
        case Numbers(tensor):
            return Numbers(tensor + by)
        case Erfinv():
            return shifted(settled(content), by)
        case Mixed(base, boxes):
            return Mixed(shifted(base, by), tuple((box, shifted(part, by)) for box, part in boxes))
        case Unread() | Empty():
            return content
    return content if by == 0 else Unread(f"{type(content).__name__.lower()} contents were shifted")


def settled(content: Content) -> Content:
    """Return erfinv of a uniform as what it is: a normal between two quantiles (√2·erfinv(2p − 1) = Φ⁻¹(p))."""
    if not isinstance(content, Erfinv):
        return content
    low, high = (
        math.sqrt(2.0) * float(torch.erfinv(torch.tensor(x, dtype=torch.float64))) for x in (content.low, content.high)
    )
    ends = (low, high) if content.scale >= 0 else (-high, -low)
    return Cut(0.0, abs(content.scale) / math.sqrt(2.0), *ends)


def number(content: Content) -> float | None:
    """Return the one number that contents consist of, or None."""
    if isinstance(content, Drawn) and isinstance(content.law, Constant):
        return content.law.value
    if isinstance(content, Numbers) and content.tensor.numel() and not content.tensor.is_complex():
        flat = content.tensor.reshape(-1).double()
        return float(flat[0]) if bool((flat == flat[0]).all()) else None
    return None


def independent(content: Content) -> bool:
    """Say whether all elements are drawn alike and independently, so that any rearrangement of them has the same law."""
    return isinstance(content, (Drawn, Cut, Erfinv, Empty, Unread)) or number(content) is not None


# Rules


def _empty(reader: Reader, node: Node) -> Content:
    return Empty()


def _constant(value: float) -> Rule:
    return lambda reader, node: Drawn(Constant(value))


def _full(name: str) -> Rule:
    return lambda reader, node: _number_of(reader.argument(node, name))


def _number_of(content: Content) -> Content:
    value = number(content)
    return Unread("filled with an unknown number") if value is None else Drawn(Constant(value))


def _normal(reader: Reader, node: Node) -> Content:
    mean, std = (
        number(reader.of(node.arguments.get(name, default))) for name, default in (("mean", 0.0), ("std", 1.0))
    )
    return Unread("a normal with settings that differ") if mean is None or std is None else Drawn(Normal(std, mean))


def _uniform(reader: Reader, node: Node) -> Content:
    return Drawn(Uniform(float(node.arguments["from"]), float(node.arguments["to"])))


def _law(law: Law) -> Rule:
    return lambda reader, node: Drawn(law)


def _no_law(reader: Reader, node: Node) -> Content:
    return Unread(f"{node.op} draws from a distribution that has no law here")


def _truncated(reader: Reader, node: Node) -> Content:
    a = node.arguments
    if a["std"] == 0:
        return Drawn(Constant(a["mean"]))
    return Cut(a["mean"], a["std"], (a["a"] - a["mean"]) / a["std"], (a["b"] - a["mean"]) / a["std"])


def _erfinv(reader: Reader, node: Node) -> Content:
    source = reader.argument(node, "self")
    if isinstance(source, Drawn) and isinstance(source.law, Uniform):
        return Erfinv(1.0, source.law.low, source.law.high)
    return Unread("erfinv of what is not uniform")


def _clamp(reader: Reader, node: Node) -> Content:
    """Clamping changes nothing where no more than a millionth of the draws lies beyond: rounding, or ends far out."""
    source = settled(reader.argument(node, "self"))
    if isinstance(source, Drawn) and isinstance(source.law, Normal):
        source = Cut(source.law.mean, source.law.std, -math.inf, math.inf)
    low, high = (node.arguments.get(name) for name in ("min", "max"))
    if isinstance(source, Cut) and source.std > 0:
        ends = [end if end is None else (float(end) - source.mean) / source.std for end in (low, high)]
        below = 0.0 if ends[0] is None else _mass(source.low, ends[0])
        above = 0.0 if ends[1] is None else _mass(ends[1], source.high)
        if below + above <= 1e-6 * _mass(source.low, source.high):
            return source
    return source if isinstance(source, Unread) else Unread("clamped: a lump of probability at the ends")


def _mass(low: float, high: float) -> float:
    """Return the probability of N(0, 1) between two ends."""
    return max(0.0, (math.erf(high / math.sqrt(2.0)) - math.erf(low / math.sqrt(2.0))) / 2)


def _times(reader: Reader, node: Node) -> Content:
    a, b = reader.argument(node, "self"), reader.argument(node, "other")
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Factor) and isinstance(other, Factor) and (one.part, other.part) == ("q", "sign"):
            return Orthogonal(1.0, one.sides)
        factor = number(other)
        if factor is not None:
            return scaled(one, factor)
    return a if isinstance(a, Unread) else Unread("a product of tensors")


def _over(reader: Reader, node: Node) -> Content:
    a, divisor = reader.argument(node, "self"), number(reader.argument(node, "other"))
    if divisor:
        return scaled(a, 1.0 / divisor)
    return a if isinstance(a, Unread) else Unread("a quotient of tensors")


def _plus(sign: float) -> Rule:
    def rule(reader: Reader, node: Node) -> Content:
        a, b = reader.argument(node, "self"), reader.argument(node, "other")
        factor = sign * float(node.arguments.get("alpha") or 1)
        if (shift := number(b)) is not None:
            return shifted(a, factor * shift)
        if (shift := number(a)) is not None:
            return shifted(scaled(b, factor), shift)
        return _sum_of_normals(a, scaled(b, factor), node)

    return rule


def _sum_of_normals(a: Content, b: Content, node: Node) -> Content:
    """Independent normals add up to a normal; the same draw twice would not."""
    different = node.arguments["self"] != node.arguments["other"]
    match (a, b):
        case (Drawn(Normal(std, mean)), Drawn(Normal(other, shift))) if different:
            return Drawn(Normal(math.hypot(std, other), mean + shift))
    return next((c for c in (a, b) if isinstance(c, Unread)), Unread("a sum of tensors"))


def _rsub(reader: Reader, node: Node) -> Content:
    """other − alpha · self."""
    shift = number(reader.argument(node, "other"))
    factor = -float(node.arguments.get("alpha") or 1)
    a = reader.argument(node, "self")
    return shifted(scaled(a, factor), shift) if shift is not None else Unread("a difference of tensors")


def _negative(reader: Reader, node: Node) -> Content:
    return scaled(reader.argument(node, "self"), -1.0)


def _copy(reader: Reader, node: Node) -> Content:
    """Return what was copied; a broadcast copy repeats its elements."""
    source, target = node.arguments["src"], node.arguments["self"]
    content = reader.of(source)
    if math.prod(reader.shape(source)) == math.prod(reader.shape(target)):
        return content
    return _repeated(content)


def _repeated(content: Content) -> Content:
    value = number(content)
    if value is not None:
        return Drawn(Constant(value))
    return content if isinstance(content, (Unread, Empty)) else Unread("elements of one draw are repeated")


def _moved(reader: Reader, node: Node) -> Content:
    """Rearranging independent elements changes nothing; a matrix may be transposed and reshaped."""
    content = reader.argument(node, "self" if "self" in node.arguments else "input")
    if independent(content) or (isinstance(content, (Orthogonal, Factor, Zeroed, Mixed)) and node.op in SAME_MATRIX):
        return content
    if isinstance(content, Zeroed) and node.op == "select" and node.arguments["index"] not in content.columns:
        return Drawn(Normal(content.std))  # a column that has no zeros yet
    return Unread(f"{node.op} of {type(content).__name__.lower()} contents")


def _expanded(reader: Reader, node: Node) -> Content:
    content, made = reader.argument(node, "self"), reader.graph.values[node.outputs[0]]
    same = math.prod(reader.shape(node.arguments["self"])) == math.prod(made.shape)
    return content if same and independent(content) else _repeated(content)


def _qr(reader: Reader, node: Node) -> Content:
    source = settled(reader.argument(node, next(n for n in ("A", "self") if n in node.arguments)))
    if isinstance(source, Drawn) and isinstance(source.law, Normal) and source.law.mean == 0:
        return Factor("q", tuple(sorted(reader.graph.values[node.outputs[0]].shape)))
    return Unread("QR of what is not a centred normal")


def _diagonal(reader: Reader, node: Node) -> Content:
    source = reader.argument(node, "self")
    return Factor("diagonal") if isinstance(source, Factor) and source.part == "r" else Unread("a diagonal")


def _sign(reader: Reader, node: Node) -> Content:
    return Factor("sign") if reader.argument(node, "self") == Factor("diagonal") else Unread("signs")


def _joined(reader: Reader, node: Node) -> Content:
    """Return a mixture along the joined axis, or one law where all parts follow it."""
    parts = node.arguments["tensors"]
    contents = [reader.of(part) for part in parts]
    if all(independent(c) and c == contents[0] for c in contents) and not isinstance(contents[0], Numbers):
        return contents[0]
    shape, dim = (
        reader.graph.values[node.outputs[0]].shape,
        node.arguments["dim"] % len(reader.graph.values[node.outputs[0]].shape),
    )
    boxes, start = [], 0
    for part, content in zip(parts, contents, strict=True):
        size = reader.shape(part)[dim] if node.op == "cat" else 1
        box = tuple(slice(start, start + size) if axis == dim else slice(0, n) for axis, n in enumerate(shape))
        boxes.append((box, content))
        start += size
    return Mixed(Empty(), tuple(boxes))


def _written_over(reader: Reader, node: Node) -> Content:
    """Return the old contents with a box of new ones."""
    a = node.arguments
    old, new = reader.of(a["old"]), reader.of(a["new"])
    (size, stride, offset), (old_size, old_stride, old_offset) = a["new_geometry"], a["old_geometry"]
    covered = old_offset == offset and math.prod(size) == math.prod(old_size) == a["numel"]
    same_layout = (size, stride) == (old_size, old_stride)
    if covered and (independent(new) or isinstance(new, (Orthogonal, Factor)) or same_layout):
        return new
    if old == new and independent(old) and not isinstance(old, Numbers):
        return old
    box = box_of(a["new_geometry"], a["old_geometry"])
    if (zeroed := _with_zeros(old, new, box)) is not None:
        return zeroed
    if box is None:
        return next(
            (c for c in (old, new) if isinstance(c, Unread)), Unread("part of it was written in a pattern of places")
        )
    boxes = old.boxes if isinstance(old, Mixed) else ()
    return Mixed(old.base if isinstance(old, Mixed) else old, (*boxes, (box, new)))


def box_of(inner: tuple[Any, Any, int], outer: tuple[Any, Any, int]) -> tuple[slice, ...] | None:
    """Return the slices of `outer` that `inner` views, both given by size, stride and offset; None if it is no box.

    Examples:
        >>> box_of(((2,), (6,), 1), ((2, 6), (6, 1), 0))
        (slice(0, 2, 1), slice(1, 2, 1))
    """
    (size, stride, offset), (out_size, out_stride, out_offset) = inner, outer
    steps = {step: n for n, step in zip(size, stride, strict=True) if n > 1}
    rest, box = offset - out_offset, []
    for n, step in zip(out_size, out_stride, strict=True):
        start = rest // step if n > 1 else 0
        rest -= start * step
        length = steps.pop(step, 1) if n > 1 else 1
        if not 0 <= start <= n - length:
            return None
        box.append(slice(start, start + length, 1))
    return None if rest or steps else tuple(box)


def covers(boxes: list[tuple[slice, ...]], shape: tuple[int, ...]) -> bool:
    """Say whether boxes leave nothing of a tensor out; the tensor is cut at their edges, so its size does not matter.

    Examples:
        >>> covers([(slice(0, 3), slice(0, 4)), (slice(3, 4), slice(0, 4))], (4, 4))
        True
    """
    edges = [
        sorted({0, n, *(e for box in boxes for e in (box[axis].start, box[axis].stop))}) for axis, n in enumerate(shape)
    ]
    cells = torch.zeros([len(axis) - 1 for axis in edges], dtype=torch.bool)
    for box in boxes:
        cells[tuple(slice(e.index(s.start), e.index(s.stop)) for e, s in zip(edges, box, strict=True))] = True
    return bool(cells.all())


def _put(reader: Reader, node: Node) -> Content:
    """`column[randperm(rows)[:k]] = 0` on normal elements: one column of `nn.init.sparse_`."""
    source, indices = reader.argument(node, "self"), node.arguments["indices"]
    random = len(indices) == 1 and indices[0] is not None and _from_randperm(reader.graph, indices[0].id)
    match source:
        case Drawn(Normal(std, 0.0)) if random and number(reader.argument(node, "values")) == 0:
            return Zeroed(std, math.prod(reader.shape(indices[0])), VECTOR)
    return source if isinstance(source, Unread) else Unread("elements were set one by one")


def _with_zeros(old: Content, new: Content, box: tuple[slice, ...] | None) -> Zeroed | None:
    """Return a matrix with one more column that has zeros at random places, or None if that is not what was written."""
    if not isinstance(new, Zeroed) or new.columns != VECTOR or box is None or len(box) != 2:
        return None
    column = frozenset({box[1].start})
    match old:
        case Drawn(Normal(std, 0.0)) if std == new.std:
            return Zeroed(std, new.zeros, column)
        case Zeroed(std, zeros, columns) if (std, zeros) == (new.std, new.zeros):
            return Zeroed(std, zeros, columns | column)
    return None


def _from_randperm(graph: Graph, value: int) -> bool:
    node = graph.producer(value)
    while node is not None and node.op in MOVES:
        node = graph.producer(node.inputs[0])
    return node is not None and node.op == "randperm"


def law_of(content: Content, shape: tuple[int, ...]) -> Law | None:
    """Return the law of contents that are all of one kind, or None."""
    content = settled(content)
    match content:
        case Drawn(law):
            return law
        case Cut(mean, std, low, high):
            return _cut_law(mean, std, low, high)
        case Orthogonal(gain, sides):
            return OrthogonalLaw(gain) if sides == tuple(sorted((shape[0], math.prod(shape[1:])))) else None
        case Zeroed(std, zeros, columns):
            return SparseLaw(zeros / shape[0], std) if len(shape) == 2 and len(columns) == shape[1] else None
    value = number(content)
    if value is not None and math.isfinite(value):
        return Constant(value)
    return _pattern(content.tensor) if isinstance(content, Numbers) else None


def _pattern(numbers: torch.Tensor) -> Law | None:
    """Return the law of a matrix or kernel that hands its input on, or None."""
    shape, ones = tuple(numbers.shape), int(numbers.count_nonzero())
    if len(shape) < 2 or 0 in shape or numbers.is_complex():
        return None
    if len(shape) == 2:
        laws: list[Law] = [Identity(float(numbers[0, 0]))]
    else:
        groups = [g for g in range(1, shape[0] + 1) if shape[0] % g == 0 and ones == g * min(shape[0] // g, shape[1])]
        laws = [Dirac(g) for g in groups]
    exact = numbers.double().numpy()
    return next((law for law in laws if (exact == law.moments(shape)[0]).all()), None)


def _cut_law(mean: float, std: float, low: float, high: float) -> Law | None:
    """Return a truncated normal around 0; cuts beyond ten deviations cut nothing."""
    if low <= -10 and high >= 10:
        return Normal(std, mean)
    if mean != 0:
        return None
    unit = TruncatedNormal(1.0, low, high)
    return TruncatedNormal(std / unit.parent_std, low, high)


SAME_MATRIX = frozenset({"view", "reshape", "view_as", "reshape_as", "t", "transpose", "detach", "clone", "contiguous", "to", "_to_copy", "alias", "lift_fresh", "lift"})  # fmt: skip
MOVES = SAME_MATRIX | {"permute", "select", "slice", "narrow", "squeeze", "unsqueeze", "flatten", "unflatten", "chunk", "split", "split_with_sizes",
                       "unbind", "movedim", "swapaxes", "flip", "roll", "float", "double", "half", "bfloat16", "type_as"}  # fmt: skip

RULES: Mapping[str, Rule] = MappingProxyType(
    # families
    dict.fromkeys(MOVES, _moved)
    | dict.fromkeys(("empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided"), _empty)
    | dict.fromkeys(("zeros", "zeros_like", "new_zeros", "zero"), _constant(0.0))
    | dict.fromkeys(("ones", "ones_like", "new_ones"), _constant(1.0))
    | dict.fromkeys(("full", "full_like", "new_full"), _full("fill_value"))
    | dict.fromkeys(("randn", "randn_like"), _law(Normal(1.0)))
    | dict.fromkeys(("rand", "rand_like"), _law(Uniform(0.0, 1.0)))
    | dict.fromkeys(
        (
            "exponential",
            "bernoulli",
            "randint",
            "randint_like",
            "random",
            "geometric",
            "cauchy",
            "log_normal",
            "randperm",
            "multinomial",
            "poisson",
        ),
        _no_law,
    )
    | dict.fromkeys(("expand", "expand_as", "broadcast_to", "repeat", "tile", "repeat_interleave"), _expanded)
    # one by one
    | {
        "fill": _full("value"),
        "normal": _normal,
        "uniform": _uniform,
        "init::truncated_normal": _truncated,
        "erfinv": _erfinv,
        "clamp": _clamp,
        "mul": _times,
        "div": _over,
        "add": _plus(1.0),
        "sub": _plus(-1.0),
        "rsub": _rsub,
        "neg": _negative,
        "copy": _copy,
        "linalg_qr": _qr,
        "qr": _qr,
        "diag": _diagonal,
        "diagonal": _diagonal,
        "sign": _sign,
        "cat": _joined,
        "stack": _joined,
        "alias_update": _written_over,
        "index_put": _put,
    }
)
