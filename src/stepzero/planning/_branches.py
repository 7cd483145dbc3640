"""Where a residual stream is added to, and which weights end each branch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stepzero.moments import weight_argument
from stepzero.network import Graph, Node, Ref
from stepzero.planning._slots import NORMS

JOINS = frozenset({"add", "sub"})
SHARP = {  # ops that turn scores into shares, with the arguments whose scale decides how sharply
    "softmax": ("self", "input"),
    "log_softmax": ("self", "input"),
    "_softmax": ("self",),
    "_log_softmax": ("self",),
    "scaled_dot_product_attention": ("query", "key"),
}


@dataclass(frozen=True)
class Branch:
    """One branch of a residual join."""

    join: int  # node id of the addition
    ends: tuple[int, ...]  # weight nodes whose outputs reach the join with no normalisation in between
    depth: int  # branches of the same stream, this one included


def residual_branches(graph: Graph) -> list[Branch]:
    """Return every residual branch whose scale a weight decides.

    An addition is a residual join if one operand (the skip) passes fewer weight ops than the other. Joins whose
    skips run into each other with neither weight nor normalisation in between form one stream, which grows by
    one branch at a time: its number of joins is the depth that a branch is scaled for.
    """
    weights = {n.id for n in graph.nodes if _multiplies_weight(graph, n)}
    longest = _longest_paths(graph, weights)
    joins = {n.id: _operands(graph, n, longest) for n in graph.nodes if n.op in JOINS}
    joins = {n: pair for n, pair in joins.items() if pair is not None}
    stream: dict[int, int] = {}
    for node, pair in joins.items():
        assert pair is not None
        before = next((j for j in _reach(graph, pair[0], weights, NORMS) if j in joins), None)
        stream[node] = node if before is None else stream[before]
    sizes = {root: sum(1 for r in stream.values() if r == root) for root in set(stream.values())}
    found = []
    for node, pair in joins.items():
        assert pair is not None
        ends = tuple(n for n in _reach(graph, pair[1], weights, NORMS) if n in weights)
        blocked = any(graph.nodes[n].op in NORMS for n in _reach(graph, pair[1], weights, NORMS))
        if ends and not blocked:
            found.append(Branch(node, ends, sizes[stream[node]]))
    return found


def logits(graph: Graph) -> frozenset[int]:
    """Return the weight ops whose outputs a softmax reads, queries and keys too: their scale decides how sharp it is."""
    weights = {n.id for n in graph.nodes if _multiplies_weight(graph, n)}
    found: set[int] = set()
    for node in graph.nodes:
        if node.op not in SHARP:
            continue
        refs = [node.arguments[a] for a in SHARP[node.op] if isinstance(node.arguments.get(a), Ref)]
        for ref in refs:
            found |= set(_behind(graph, ref.id, weights))
    return frozenset(found)


def _behind(graph: Graph, value: int, weights: set[int]) -> Iterator[int]:
    """Yield the weight ops met first when walking back from a value, with no normalisation in between."""
    queue, seen = [value], {value}
    while queue:
        node = graph.producer(queue.pop())
        if node is None or node.op in NORMS:
            continue
        if node.id in weights:
            yield node.id
            continue
        fresh = [v for v in node.inputs if v not in seen and graph.values[v].from_input]
        seen.update(fresh)
        queue.extend(fresh)


def _multiplies_weight(graph: Graph, node: Node) -> bool:
    w = weight_argument(node)
    return w is not None and graph.values[w].from_parameter and not graph.values[w].from_input


def _longest_paths(graph: Graph, weights: set[int]) -> dict[int, int]:
    """Return, for each value, the largest number of weight ops on a path to it."""
    longest: dict[int, int] = {}
    for node in graph.nodes:
        most = max((longest.get(v, 0) for v in node.inputs), default=0) + (node.id in weights)
        longest.update(dict.fromkeys(node.outputs, most))
    return longest


def _operands(graph: Graph, node: Node, longest: Mapping[int, int]) -> tuple[int, int] | None:
    """Return (skip, branch) if the addition joins two activations of the same shape and different depth."""
    refs = [a.id for a in node.arguments.values() if isinstance(a, Ref)]
    if len(refs) != 2 or any(not graph.values[v].from_input for v in refs):
        return None
    shape = graph.values[node.outputs[0]].shape
    if any(graph.values[v].shape != shape for v in refs):
        return None
    a, b = refs
    if longest.get(a, 0) == longest.get(b, 0):
        return None
    return (a, b) if longest.get(a, 0) < longest.get(b, 0) else (b, a)


def _reach(graph: Graph, value: int, weights: set[int], stops: frozenset[str]) -> Iterator[int]:
    """Yield the first weight ops, joins and norms met when walking back from a value."""
    queue, seen = [value], {value}
    while queue:
        node = graph.producer(queue.pop())
        if node is None:
            continue
        if node.id in weights or node.op in stops or node.op in JOINS:
            yield node.id
            continue
        shape = graph.values[node.outputs[0]].shape
        parents = [v for v in node.inputs if graph.values[v].from_input]
        like = [v for v in parents if graph.values[v].shape == shape] or parents
        fresh = [v for v in like if v not in seen]
        seen.update(fresh)
        queue.extend(fresh)
