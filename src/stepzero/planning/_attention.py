"""Attention as policies look at it: which outputs of which weights are queries, and which weights mix the shares of a softmax."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stepzero.moments import MOVES, input_argument
from stepzero.network import Graph, Node, Ref, run

from ._branches import SHARP, behind
from ._slots import NORMS

ATTENTION = "scaled_dot_product_attention"
PRODUCTS = {"matmul": "self", "bmm": "self", "baddbmm": "batch1", "mm": "self"}  # the argument that queries come in
JOINED = frozenset({"cat", "concat", "stack"})
SHARES = frozenset({"softmax", "_softmax"})


def mixers(graph: Graph, weights: set[int]) -> list[int]:
    """Return the weight ops that read the shares of a softmax as they are, and mix them between heads."""
    found = []
    for node in (graph.nodes[w] for w in sorted(weights)):
        x = input_argument(node)
        maker = None if x is None else graph.producer(x)
        while maker is not None and (maker.op in MOVES or maker.op == "dropout"):
            maker = graph.producer(maker.inputs[0])
        if maker is not None and maker.op in SHARES:
            found.append(node.id)
    return found


def query_rows(graph: Graph, weights: set[int]) -> dict[int, Tensor]:
    """Return, for each weight op that makes queries, which of its outputs are some: a mask along its channels.

    The number of each channel follows the data movement up to the scores; rotations by position and other elementwise ops leave
    it in its place, a normalisation ends the walk, for it would divide a scale out.
    """
    asked = dict(_queries(graph, weights))
    found: dict[int, Tensor] = {}
    for node in {w for value in asked.values() for w in behind(graph, value, weights)}:
        mask = _reached(graph, graph.nodes[node], weights, asked)
        if mask is not None and bool(mask.any()):
            found[node] = mask
    return found


def _queries(graph: Graph, weights: set[int]) -> Iterator[tuple[int, int]]:
    """Yield each op that multiplies queries by keys, with the value that it takes for queries."""
    for node in graph.nodes:
        given = node.arguments.get("query")
        if node.op == ATTENTION and isinstance(given, Ref):
            yield node.id, given.id
        elif node.op in SHARP and node.op != ATTENTION:
            first = next((node.arguments[a] for a in SHARP[node.op] if isinstance(node.arguments.get(a), Ref)), None)
            yield from _scores(graph, first.id, weights) if isinstance(first, Ref) else ()


def _scores(graph: Graph, value: int, weights: set[int]) -> Iterator[tuple[int, int]]:
    """Walk back from a softmax, through scales, masks and moves, to the product of two activations."""
    shape, node = graph.values[value].shape, graph.producer(value)
    while node is not None and (node.op not in PRODUCTS or node.id in weights):
        like = [v for v in node.inputs if graph.values[v].from_input]
        same = [v for v in like if graph.values[v].shape == shape] or like
        node = graph.producer(same[0]) if same else None
    if node is not None:
        given = node.arguments.get(PRODUCTS[node.op])
        if isinstance(given, Ref):
            yield node.id, given.id


def _reached(graph: Graph, node: Node, weights: set[int], asked: dict[int, int]) -> Tensor | None:
    """Return which channels of a weight op's output arrive as queries; None where none was followed so far."""
    shape = graph.values[node.outputs[0]].shape
    axis = 1 if node.op.startswith("conv") else len(shape) - 1
    count = torch.arange(shape[axis], dtype=torch.int32)
    labels = {node.outputs[0]: count.reshape([-1 if i == axis else 1 for i in range(len(shape))]).expand(shape)}
    for later in graph.nodes[node.id + 1 :]:
        if later.id in asked:
            arrived = labels.get(asked[later.id])
            if arrived is not None:
                return torch.isin(count, arrived)
        elif later.id not in weights and later.op not in NORMS and not labels.keys().isdisjoint(later.inputs):
            labels.update(_moved(graph, later, labels))
    return None


def _moved(graph: Graph, node: Node, labels: dict[int, Tensor]) -> dict[int, Tensor]:
    """Return the labels of what an op makes: moved as the op moves, in place where it works element by element."""
    mine = [labels[v] for v in node.inputs if v in labels]
    if node.op in MOVES | JOINED and len(mine) == len(node.inputs):
        return dict(zip(node.outputs, run(node, labels, torch.device("cpu")), strict=True))
    shapes = [graph.values[v].shape for v in node.outputs]
    return dict(zip(node.outputs, mine[:1], strict=True)) if shapes == [tuple(mine[0].shape)] else {}
