"""Which way a value points: whether the ops that made it leave it no sign but one."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from stepzero.moments._segments import segment
from stepzero.network import Graph, Node, Ref

COMPARISONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "gt": torch.gt,
    "ge": torch.ge,
    "lt": torch.lt,
    "le": torch.le,
}
FARTHEST = 32  # ops that are looked back
_POSITIVE = "abs exp relu relu6 sigmoid softmax _softmax softplus square sqrt rsqrt special_expit hardsigmoid linalg_vector_norm"
_KEEPS = (
    "alias clone contiguous detach to _to_copy type_as view reshape flatten unflatten _unsafe_view squeeze unsqueeze expand "
    "expand_as broadcast_to permute transpose movedim swapaxes slice select narrow split split_with_sizes chunk unbind repeat "
    "repeat_interleave tile pad constant_pad_nd roll flip cumsum sum mean dropout tril triu "
    "topk sort gather index_select index amax amin"
)
POSITIVE, KEEPS = frozenset(_POSITIVE.split()), frozenset(_KEEPS.split())  # zeros may come in


def sign(graph: Graph, value: int, depth: int = FARTHEST) -> int:
    """Return 1 if a value cannot be negative, -1 if it cannot be positive, 0 if neither is certain."""
    known, node = graph.values[value].known, graph.producer(value)
    if known is not None:
        return _of_numbers(known)
    if node is None or not depth:
        return 0
    if node.op in POSITIVE:
        return 1
    if node.op in KEEPS:
        return sign(graph, node.inputs[0], depth - 1) if not node.arguments.get("value") else 0
    rule = RULES.get(node.op)
    if rule is None:
        return 0
    ways = [_of(graph, node, name, depth - 1) for name in ("self", "other") if name in node.arguments]
    return rule(graph, node, ways)


def _of(graph: Graph, node: Node, name: str, depth: int) -> int:
    item = node.arguments[name]
    if isinstance(item, Ref):
        return sign(graph, item.id, depth)
    return (item > 0) - (item < 0) if isinstance(item, (int, float)) else 0


def _of_numbers(x: Tensor) -> int:
    if x.dtype.is_complex or not x.numel():
        return 0
    return int(bool((x >= 0).all())) - int(bool((x <= 0).all()))


def _clamped(graph: Graph, node: Node, ways: list[int]) -> int:
    low, high = (node.arguments.get(k) for k in ("min", "max"))
    if isinstance(low, (int, float)) and low >= 0:
        return 1
    return -1 if isinstance(high, (int, float)) and high <= 0 else ways[0]


def _filled(graph: Graph, node: Node, ways: list[int]) -> int:
    """What a mask puts in: nothing, or minus infinity where no positive number was."""
    value = node.arguments.get("value")
    if isinstance(value, Ref) or value is None:
        return 0
    way = ways[0] or _seen(graph, node, float(value))
    return way if value * way >= 0 else 0


def _seen(graph: Graph, node: Node, value: float) -> int:
    """What minus infinity leaves of S_i - S_j: sums of the terms in between, where no j > i is to be seen."""
    stretch, mask = segment(graph, graph.producer(node.inputs[0])), node.arguments.get("mask")
    known = graph.values[mask.id].known if isinstance(mask, Ref) else None
    if stretch is None or known is None or value != -math.inf:
        return 0
    rank = len(graph.values[node.outputs[0]].shape)
    return sign(graph, stretch.total.inputs[0]) if stretch.forward_only(known, rank) else 0


def _less(graph: Graph, node: Node, ways: list[int]) -> int:
    """a - b: of opposite signs, or the last of a running sum less any of them."""
    if ways[0] and ways[0] == -ways[1]:
        return ways[0]
    last, each = (node.arguments.get(k) for k in ("self", "other"))
    if not (isinstance(last, Ref) and isinstance(each, Ref)):
        return 0
    cut, total = graph.producer(last.id), graph.producer(each.id)
    is_last = cut is not None and cut.op in ("slice", "select") and cut.inputs[0] == each.id and _is_last(cut)
    return ways[1] if is_last and total is not None and total.op == "cumsum" else 0


def _is_last(cut: Node) -> bool:
    return int(cut.arguments.get("start" if cut.op == "slice" else "index") or 0) == -1


def compared(graph: Graph, condition: int) -> tuple[int, str, float] | None:
    """Return which value a condition compares, how, and with which number."""
    node = graph.producer(condition)
    number = None if node is None else node.arguments.get("other")
    if node is None or node.op not in COMPARISONS or not isinstance(number, (int, float)):
        return None
    return node.inputs[0], node.op, float(number)


def _chosen(graph: Graph, node: Node, ways: list[int]) -> int:
    """where(x > c, x, y): x is as positive as c there."""
    condition, yes = node.arguments["condition"], node.arguments.get("self")
    found = compared(graph, condition.id) if isinstance(condition, Ref) else None
    if len(ways) == 2 and found is not None and isinstance(yes, Ref) and found[0] == yes.id and not ways[0]:
        _, op, number = found
        ways = [1 if op in ("gt", "ge") and number >= 0 else -1 if op in ("lt", "le") and number <= 0 else 0, ways[1]]
    return ways[0] if len(ways) == 2 and ways[0] == ways[1] else 0


def _logarithm(graph: Graph, node: Node, ways: list[int]) -> int:
    """log(1 + y) of a y that is never negative."""
    inner = graph.producer(node.inputs[0])
    if inner is None or inner.op != "add" or float(inner.arguments.get("alpha") or 1.0) != 1.0:
        return 0
    sides = [inner.arguments.get(name) for name in ("self", "other")]
    numbers = [x for x in sides if isinstance(x, (int, float)) and x >= 1]
    others = [x for x in sides if isinstance(x, Ref)]
    return sign(graph, others[0].id) if numbers and others and sign(graph, others[0].id) > 0 else 0


def _negative(graph: Graph, node: Node, ways: list[int]) -> int:
    return -ways[0]


def _product(graph: Graph, node: Node, ways: list[int]) -> int:
    return ways[0] * ways[-1]


def _sum(graph: Graph, node: Node, ways: list[int]) -> int:
    return ways[0] if ways[0] == ways[-1] and float(node.arguments.get("alpha") or 1.0) > 0 else 0


RULES = {
    "add": _sum,
    "clamp": _clamped,
    "clamp_max": _clamped,
    "clamp_min": _clamped,
    "div": _product,
    "log": _logarithm,
    "masked_fill": _filled,
    "mul": _product,
    "neg": _negative,
    "sub": _less,
    "where": _chosen,
}
