"""The story of a tensor's values in words: what was drawn, computed and written, first to last, with the lines of code."""

from __future__ import annotations

from collections.abc import Iterable

from stepzero.network._graph import Graph, Node

MOST = 12  # ops that are told of what a write was computed from


def story(graph: Graph, written: Iterable[int]) -> list[Node]:
    """Return every node that wrote to a tensor, and the ops before it that made what was written, in order.

    Args:
        graph: What the constructor did.
        written: The values that were written, or the one value that the tensor was made as.
    """
    makers = {node.id: node for value in written if (node := graph.producer(value)) is not None}
    queue, before = list(makers.values()), dict[int, Node]()
    while queue:
        for value in queue.pop().inputs:
            node = graph.producer(value)
            if node is not None and node.id not in makers and node.id not in before:
                before[node.id] = node
                queue.append(node)
    ops = [node for node in before.values() if node.op not in QUIET]
    told_of = {node.id: node for node in sorted(ops, key=lambda node: node.id)[-MOST:]}
    writes = {key: node for key, node in makers.items() if node.op not in (SILENT if node.writes else QUIET)}
    return [node for _, node in sorted((told_of | writes).items())]


def told(node: Node) -> str:
    """Return an op with its numbers and the line that ran it: `normal(mean=0, std=0.02) at timm/layers/weight_init.py:50`."""
    numbers = {name: thing for name, thing in node.arguments.items() if isinstance(thing, (int, float))}
    if numbers.get("alpha") == 1:
        del numbers["alpha"]
    settings = ", ".join(f"{name}={thing:.6g}" for name, thing in numbers.items() if not isinstance(thing, bool))
    return f"{node.op.removeprefix('init::')}({settings}) at {node.line}{_remark(node)}"


def _remark(node: Node) -> str:
    """Say so where the bounds of a truncated normal lie so far out that they cut nothing."""
    a = node.arguments
    if node.op != "init::truncated_normal" or not a["std"]:
        return ""
    sigmas = min(abs(a[end] - a["mean"]) / a["std"] for end in ("a", "b"))
    return f" (its bounds lie {sigmas:.3g} standard deviations out: nothing is cut)" if sigmas >= 10 else ""


SILENT = frozenset({"detach", "alias", "alias_update", "lift_fresh", "lift", "set"})
QUIET = SILENT | {
    "contiguous", "to", "_to_copy", "type_as", "view", "reshape", "view_as", "reshape_as", "t", "transpose", "permute",
    "select", "slice", "narrow", "squeeze", "unsqueeze", "flatten", "unflatten", "chunk", "split", "split_with_sizes", "unbind",
    "expand", "expand_as", "empty", "empty_like", "empty_strided", "new_empty", "empty_permuted",
}  # fmt: skip
