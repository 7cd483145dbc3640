"""Where a residual stream is added to, and which weights end each branch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

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
    inner: tuple[int, ...] = ()  # weight nodes of the branch before its ends, in order
    norms: tuple[int, ...] = ()  # norms that stand between its last weights and the join


def residual_branches(graph: Graph) -> list[Branch]:
    """Return every residual branch whose scale a weight decides, with no norm behind it.

    An addition is a residual join if one operand (the skip) passes fewer weight ops than the other, which begins where the skip
    does. Joins whose skips run into each other with neither weight nor normalisation in between form one stream, which grows by
    one branch at a time: its number of joins is the depth that a branch is scaled for.
    """
    return [branch for branch in all_branches(graph) if branch.ends and not branch.norms]


def all_branches(graph: Graph) -> list[Branch]:
    """Return every residual branch, those that end in a norm too."""
    weights = weight_nodes(graph)
    joins = residual_joins(graph)
    stream: dict[int, int] = {}
    for node, (skip, _) in joins.items():
        before = next((j for j in _reach(graph, skip, weights, joins) if j in joins), None)
        stream[node] = node if before is None else stream[before]
    sizes = Counter(stream.values())
    return [_branch(graph, node, *pair, sizes[stream[node]], weights, joins) for node, pair in joins.items()]


def residual_joins(graph: Graph) -> dict[int, tuple[int, int]]:
    """Return the values (skip, branch) that each residual addition joins, by node."""
    longest = _longest_paths(graph, weight_nodes(graph))
    pairs = {n.id: _operands(graph, n, longest) for n in graph.nodes if n.op in JOINS}
    return {n: pair for n, pair in pairs.items() if pair is not None}


def weight_nodes(graph: Graph) -> set[int]:
    """Return the ops that multiply a signal by a weight."""
    return {n.id for n in graph.nodes if _multiplies_weight(graph, n)}


def _branch(
    graph: Graph, join: int, skip: int, branch: int, depth: int, weights: set[int], joins: Collection[int]
) -> Branch:
    met = list(_reach(graph, branch, weights, joins))
    ends = tuple(n for n in met if n in weights)
    norms = tuple(n for n in met if graph.nodes[n].op in NORMS)
    within = set(_between(graph, branch, skip)) & weights
    return Branch(join, ends, depth, tuple(sorted(within - set(ends))), norms)


def _between(graph: Graph, value: int, skip: int) -> Iterator[int]:
    """Yield the nodes behind a value that do not stand behind the skip as well.

    Both are walked back together, last recorded first, until every open path stands behind the skip: the trunk of a deep
    net is not walked anew for each of its branches.
    """
    on_trunk: dict[int, bool] = {}
    pending: list[int] = []

    def meet(values: Iterable[int], trunk: bool) -> int:
        """Put the producers on the list, and return by how many those off the trunk have grown."""
        grown = 0
        for node in (graph.producer(v) for v in values):
            if node is None or on_trunk.get(node.id, False):
                continue
            if node.id not in on_trunk:
                heappush(pending, -node.id)
                grown += not trunk
            else:
                grown -= trunk
            on_trunk[node.id] = trunk
        return grown

    off_trunk = meet([value], False) + meet([skip], True)
    while off_trunk > 0:
        node = graph.nodes[-heappop(pending)]
        trunk = on_trunk[node.id]
        if not trunk:
            off_trunk -= 1
            yield node.id
        off_trunk += meet((v for v in node.inputs if graph.values[v].from_input), trunk)


def logits(graph: Graph) -> frozenset[int]:
    """Return the weight ops whose outputs a softmax reads, queries and keys too: their scale decides how sharp it is."""
    weights = weight_nodes(graph)
    found: set[int] = set()
    for node in graph.nodes:
        if node.op not in SHARP:
            continue
        refs = [node.arguments[a] for a in SHARP[node.op] if isinstance(node.arguments.get(a), Ref)]
        for ref in refs:
            found |= set(behind(graph, ref.id, weights))
    return frozenset(found)


def behind(graph: Graph, value: int, weights: set[int]) -> Iterator[int]:
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
    """Return (skip, branch) if the addition joins two activations of one shape, and one begins where the other does.

    The skip passes fewer weight ops; where both pass as many (a branch that pools), it is the one that the other is made from.
    """
    refs = [a.id for a in node.arguments.values() if isinstance(a, Ref)]
    shape = graph.values[node.outputs[0]].shape
    if len(refs) != 2 or any(graph.values[v].shape != shape for v in refs):
        return None
    if not any(graph.values[v].from_input for v in refs):
        return None
    a, b = sorted(refs, key=lambda v: longest.get(v, 0))
    ways = [(a, b), (b, a)] if longest.get(a, 0) == longest.get(b, 0) else [(a, b)]
    found = [pair for pair in ways if _begins_at_skip(graph, *pair)]
    return found[0] if len(found) == 1 else None


def _begins_at_skip(graph: Graph, skip: int, branch: int) -> bool:
    """Say whether the branch computes from what the skip carries: from the skip itself, or from what a shortcut reads.

    Two outputs of one layer that meet again (attention and its convolved positions, attention and MLP side by side) do not.
    """
    carried = _single_file(graph, skip)
    makers = [graph.producer(v) for v in carried]
    first = min(-1 if maker is None else maker.id for maker in makers)
    queue, seen = [branch], {branch}
    while queue:
        value = queue.pop()
        if value in carried:
            return True
        node = graph.producer(value)
        if node is not None and node.id >= first:
            fresh = [v for v in node.inputs if v not in seen and (graph.values[v].from_input or v in carried)]
            seen.update(fresh)
            queue.extend(fresh)
    return False


def _single_file(graph: Graph, value: int) -> set[int]:
    """Return a value and those before it, as long as each is made from one activation alone."""
    found = {value}
    while (node := graph.producer(value)) is not None:
        before = {v for v in node.inputs if graph.values[v].from_input} or set(node.inputs)
        if len(before) != 1:
            break
        (value,) = before
        found.add(value)
    return found


def _reach(graph: Graph, value: int, weights: set[int], joins: Collection[int]) -> Iterator[int]:
    """Yield the first weight ops, residual joins and norms met when walking back from a value.

    An addition that is no residual join is walked through: attention and MLP of a parallel block end one branch together.
    """
    queue, seen = [value], {value}
    while queue:
        node = graph.producer(queue.pop())
        if node is None:
            continue
        if node.id in weights or node.op in NORMS or node.id in joins:
            yield node.id
            continue
        shape = graph.values[node.outputs[0]].shape
        parents = [v for v in node.inputs if graph.values[v].from_input]
        like = [v for v in parents if graph.values[v].shape == shape] or parents
        fresh = [v for v in like if v not in seen]
        seen.update(fresh)
        queue.extend(fresh)
