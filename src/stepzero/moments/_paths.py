"""Where a signal came from: the op upstream that gave it its numbers, behind ops that only carry them."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from math import prod

from stepzero.moments._weights import OPERATORS, input_argument, weight_argument
from stepzero.network import Graph, Node

_MOVES = (
    "alias clone contiguous to _to_copy type_as view reshape flatten unflatten _unsafe_view squeeze unsqueeze view_as "
    "reshape_as expand expand_as broadcast_to"
)
CARRIES = frozenset(f"{_MOVES} dropout".split())
PARTS = frozenset(
    f"{_MOVES} dropout permute transpose t movedim swapaxes chunk split split_with_sizes unbind select slice narrow "
    "repeat repeat_interleave index roll pad".split()
)
FARTHEST = 64  # ops that are looked back


def upstream(graph: Graph, value: int, ops: AbstractSet[str], through: AbstractSet[str] | None) -> Node | None:
    """Return the node of one of these ops that a value comes from, behind ops that may be passed (None: any op)."""
    for _ in range(FARTHEST):
        node = graph.producer(value)
        if node is None or node.op in ops:
            return node
        inputs = [graph.values[v] for v in node.inputs if graph.values[v].dtype.is_floating_point]
        if not inputs or (through is not None and node.op not in through):
            return None
        value = max(inputs, key=lambda v: (v.from_input, prod(v.shape))).id
    return None


def shared_width(graph: Graph, first: int, second: int) -> int | None:
    """Return the width of the input that two values are linear maps of, or None if they have no such input in common."""
    sources = [_source(graph, v) for v in (first, second)]
    if sources[0] is None or sources[0] != sources[1]:
        return None
    shape, last = graph.values[sources[0][0]].shape, sources[0][1] in ("linear", "addmm", "mm", "matmul")
    return shape[-1] if last else shape[1]


def _source(graph: Graph, value: int) -> tuple[int, str] | None:
    """The input of the weight op upstream, named by the value that made it, and the kind of op."""
    node = upstream(graph, value, frozenset(OPERATORS), None)
    x = None if node is None or weight_argument(node) is None else input_argument(node)
    if node is None or x is None:
        return None
    return _origin(graph, x), node.op


def _origin(graph: Graph, value: int) -> int:
    """The value that moves alone have led away from."""
    while (node := graph.producer(value)) is not None and node.op in PARTS and node.inputs:
        value = node.inputs[0]
    return value
