"""Draws that a constructor made into a temporary: an init of a parametrised weight, which has no effect."""

from __future__ import annotations

from collections.abc import Iterable

from stepzero.network._graph import Graph, Node

FILLS = frozenset({"fill", "zero"})


def lost_draws(graph: Graph, held: Iterable[int]) -> tuple[str, ...]:
    """Return the in-place draws and fills whose result no tensor of the model holds, with their lines of code.

    What counts is written over a tensor that was computed from what the model holds, as the weight of a layer under
    `torch.nn.utils.parametrizations.weight_norm` is, and stays there; a draw that a later one replaces does not count.

    Args:
        graph: What the constructor did.
        held: The values that parameters and buffers hold in the end.
    """
    held = set(held)
    kept = _ancestors(graph, held)
    replaced = {old for node in graph.nodes for old in node.writes}
    return tuple(
        f"{node.op} at {node.line}"
        for node in graph.nodes
        if (node.random or node.op in FILLS)
        and node.writes
        and kept.isdisjoint(node.outputs)
        and replaced.isdisjoint(node.outputs)
        and any(_computed_from(graph, old, held) for old in node.writes)
    )


def _ancestors(graph: Graph, values: Iterable[int]) -> set[int]:
    """Return the values that some values were made of, themselves included."""
    queue, seen = list(values), set(values)
    while queue:
        node = graph.producer(queue.pop())
        fresh = [v for v in (_sources(node) if node is not None else ()) if v not in seen]
        seen.update(fresh)
        queue.extend(fresh)
    return seen


def _sources(node: Node) -> tuple[int, ...]:
    return (*node.inputs, *node.writes)


def _computed_from(graph: Graph, value: int, held: set[int]) -> bool:
    return value not in held and not held.isdisjoint(_ancestors(graph, [value]) - {value})
