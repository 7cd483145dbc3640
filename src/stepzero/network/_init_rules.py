"""One rule for every op that initialisation is made of: what its result contains, given what its arguments contain.

What no rule covers is `Unread`, with the op and the line: it is never guessed. Rules hold for elements that are drawn
independently; where one draw would stand in two places, they say so instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from stepzero.laws import STEPS, Constant, Law, Mapped, Normal, Uniform
from stepzero.network._arithmetic import (
    beside,
    clamp,
    erfinv,
    function,
    negative,
    over,
    plus,
    power,
    rsub,
    times,
)
from stepzero.network._boxes import box_of, inside, is_dense, rows_of
from stepzero.network._contents import (
    VECTOR,
    Content,
    Cut,
    Drawn,
    Empty,
    Factor,
    Lengths,
    Mixed,
    Numbers,
    Orthogonal,
    Unread,
    Zeroed,
    independent,
    law_of,
    mapped,
    number,
    settled,
)
from stepzero.network._graph import Graph, Node, Ref
from stepzero.network._reader import Reader, Rule


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
    """Both parts of a complex number are drawn so: as a complex law, whose parts share its variance, that is √2 wider."""
    low, high = float(node.arguments["from"]), float(node.arguments["to"])
    if not reader.graph.values[node.outputs[0]].dtype.is_complex:
        return Drawn(Uniform(low, high))
    return (
        Drawn(Uniform(math.sqrt(2.0) * low, math.sqrt(2.0) * high))
        if low == -high
        else Unread("a shifted complex uniform")
    )


def _law(law: Law) -> Rule:
    return lambda reader, node: Drawn(law)


def _exponential(reader: Reader, node: Node) -> Content:
    """−ln(U)/λ."""
    return Drawn(Mapped(Uniform(0.0, 1.0), (("log",), ("mul", -1.0 / node.arguments["lambd"]))))


def _log_normal(reader: Reader, node: Node) -> Content:
    return mapped(Drawn(Normal(node.arguments["std"], node.arguments["mean"])), ("exp",))


def _no_law(reader: Reader, node: Node) -> Content:
    return Unread(f"{node.op} draws from a distribution that has no law here")


def _truncated(reader: Reader, node: Node) -> Content:
    a = node.arguments
    if a["std"] == 0:
        return Drawn(Constant(a["mean"]))
    return Cut(a["mean"], a["std"], (a["a"] - a["mean"]) / a["std"], (a["b"] - a["mean"]) / a["std"])


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


def _set(reader: Reader, node: Node) -> Content:
    """`x.set_(y)`: x becomes y."""
    source = node.arguments.get("source")
    return reader.of(source) if isinstance(source, Ref) else Unread("memory that was set")


def _moved(reader: Reader, node: Node) -> Content:
    """Rearranging independent elements changes nothing; a matrix may be transposed and reshaped."""
    content = reader.argument(node, "self" if "self" in node.arguments else "input")
    if (
        independent(content)
        or node.op in SAME
        or (isinstance(content, (Orthogonal, Factor)) and node.op in SAME_MATRIX)
    ):
        return content
    if isinstance(content, Lengths) and node.op in IN_ORDER:
        return content
    if isinstance(content, Zeroed) and node.op == "select" and node.arguments["index"] not in content.columns:
        return Drawn(Normal(content.std))  # a column that has no zeros yet
    return Unread(f"{node.op} of {type(content).__name__.lower()} contents")


def _expanded(reader: Reader, node: Node) -> Content:
    content, made = reader.argument(node, "self"), reader.graph.values[node.outputs[0]]
    if isinstance(content, Lengths) and beside(content, reader.shape(node.arguments["self"])):
        return content  # to be divided by
    same = math.prod(reader.shape(node.arguments["self"])) == math.prod(made.shape)
    return content if same and independent(content) else _repeated(content)


def _lengths(reader: Reader, node: Node) -> Content:
    """Euclidean norms along some axes, of what has one law."""
    a = node.arguments
    source = a["v" if node.op == "norm_except_dim" else "self"]
    shape = reader.shape(source)
    law = law_of(reader.of(source), shape)
    if float(a.get("ord", a.get("p", a.get("pow", 2))) or 2) != 2 or law is None:
        content = reader.of(source)
        return content if isinstance(content, Unread) else Unread("a norm of what has no single law")
    dims = a.get("dim")
    if node.op == "norm_except_dim":
        dims = [axis for axis in range(len(shape)) if axis != dims]
    axes = range(len(shape)) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    return Lengths(source.id, law, shape, tuple(sorted(axis % len(shape) for axis in axes)))


def _parts_of_complex(reader: Reader, node: Node) -> Content:
    """A complex normal of variance σ² has real and imaginary parts of variance σ²/2."""
    match reader.argument(node, "self"):
        case Drawn(Normal(std, 0.0)):
            return Drawn(Normal(std / math.sqrt(2.0)))
        case Unread() as unread:
            return unread
    return Unread("the parts of complex numbers")


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
    if reader.share_a_draw(*parts):
        return Unread("one draw stands in several parts")
    if all(independent(c) and c == contents[0] for c in contents) and not isinstance(contents[0], Numbers):
        return contents[0]
    shape = reader.graph.values[node.outputs[0]].shape
    dim, boxes, start = node.arguments["dim"] % len(shape), [], 0
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
    whole = math.prod(size) == math.prod(old_size) == a["numel"]  # of the memory
    same_layout = (size, stride) == (old_size, old_stride)
    dense = math.prod(size) == math.prod(old_size) and is_dense(size, stride) and is_dense(old_size, old_stride)
    covered = old_offset == offset and (whole or same_layout or dense)
    if covered and (independent(new) or isinstance(new, (Orthogonal, Factor)) or same_layout):
        return new
    if _moves_draws(reader, node):
        return Unread("one draw stands in several places")
    if old == new and independent(old) and not isinstance(old, Numbers):
        return old
    box = box_of(a["new_geometry"], a["old_geometry"])
    if box is None and (independent(new) or isinstance(new, Orthogonal)):
        box = rows_of(a["new_geometry"], a["old_geometry"])  # of another shape, which these contents do not mind
    if (zeroed := _with_zeros(old, new, box)) is not None:
        return zeroed
    if box is None:
        return next(
            (c for c in (old, new) if isinstance(c, Unread)), Unread("part of it was written in a pattern of places")
        )
    boxes = tuple((b, c) for b, c in old.boxes if not inside(b, box)) if isinstance(old, Mixed) else ()
    return Mixed(old.base if isinstance(old, Mixed) else old, (*boxes, (box, new)))


def _moves_draws(reader: Reader, node: Node) -> bool:
    """Say whether a write brings elements of the old tensor to another place of it; arithmetic in place does not."""
    maker = reader.graph.producer(node.arguments["new"].id)
    in_place = maker is not None and bool(maker.writes) and maker.op != "copy"
    return not in_place and reader.share_a_draw(node.arguments["old"], node.arguments["new"])


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


FUNCTIONS = frozenset({"abs", "square", "sqrt", "reciprocal", "exp", "expm1", "log", "log1p", "sigmoid", "tanh"})
SAME = frozenset({"detach", "clone", "contiguous", "to", "_to_copy", "alias", "lift_fresh", "lift", "type_as"})
IN_ORDER = SAME | {"view", "reshape", "squeeze", "unsqueeze", "flatten"}
SAME_MATRIX = SAME | {"view", "reshape", "view_as", "reshape_as", "t", "transpose"}
MOVES = SAME_MATRIX | {"permute", "select", "slice", "narrow", "squeeze", "unsqueeze", "flatten", "unflatten", "chunk", "split",
                       "split_with_sizes", "unbind", "movedim", "swapaxes", "flip", "roll"}  # fmt: skip

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
            "bernoulli",
            "randint",
            "randint_like",
            "random",
            "geometric",
            "cauchy",
            "randperm",
            "multinomial",
            "poisson",
        ),
        _no_law,
    )
    | dict.fromkeys(("expand", "expand_as", "broadcast_to", "repeat", "tile", "repeat_interleave"), _expanded)
    | {op: function((op,)) for op in STEPS if op in FUNCTIONS}
    | dict.fromkeys(("norm_except_dim", "linalg_vector_norm", "norm"), _lengths)
    # one by one
    | {
        "fill": _full("value"),
        "normal": _normal,
        "uniform": _uniform,
        "init::truncated_normal": _truncated,
        "erfinv": erfinv,
        "clamp": clamp,
        "clamp_min": clamp,
        "clamp_max": clamp,
        "pow": power,
        "exponential": _exponential,
        "log_normal": _log_normal,
        "view_as_real": _parts_of_complex,
        "mul": times,
        "div": over,
        "add": plus(1.0),
        "sub": plus(-1.0),
        "rsub": rsub,
        "neg": negative,
        "copy": _copy,
        "set": _set,
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
