"""Read what values contain from the graph of the ops that made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stepzero.laws import Constant
from stepzero.network._contents import Content, Drawn, Factor, Numbers, Unread, number
from stepzero.network._graph import Graph, Node, Ref, Value

Rule = Callable[["Reader", Node], Content]


class Reader:
    """Reads the contents of values, each once."""

    def __init__(self, graph: Graph, rules: Mapping[str, Rule], unsure: Mapping[int, str]) -> None:
        self.graph, self.rules = graph, rules
        self.unsure = unsure  # constants that came from another library's generator, and which
        self._read: dict[int, Content] = {}
        self._draws: dict[int, frozenset[int]] = {}

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

    def share_a_draw(self, *arguments: Any) -> bool:
        """Say whether some random op stands behind two of the arguments: they are not independent then."""
        seen: set[int] = set()
        for argument in arguments:
            draws = self.draws(argument.id) if isinstance(argument, Ref) else frozenset()
            if seen & draws:
                return True
            seen |= draws
        return False

    def draws(self, value: int) -> frozenset[int]:
        """Return the random ops that a value is made of."""
        if value not in self._draws:
            found, pending, seen = set(), [value], {value}
            while pending:
                node = self.graph.producer(pending.pop())
                if node is None:
                    continue
                if node.random:
                    found.add(node.id)
                    continue
                fresh = set(node.inputs) - seen
                seen |= fresh
                pending += fresh
            self._draws[value] = frozenset(found)
        return self._draws[value]

    def shape(self, argument: Ref) -> tuple[int, ...]:
        """Return the shape of a referred value."""
        return self.graph.values[argument.id].shape

    def _line(self, node: Node) -> str:
        """Return the line of an op; of memory that was written elsewhere, that of the write."""
        written = self.graph.producer(node.arguments["new"].id) if node.op == "alias_update" else None
        return (written or node).line

    def _is_cast(self, node: Node, value: Value) -> bool:
        """Say whether draws were made whole numbers, or real ones complex."""
        if not value.dtype.is_complex:
            return not value.dtype.is_floating_point
        return not node.random and not all(self.graph.values[v].dtype.is_complex for v in node.inputs)

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
        rule = self.rules.get(node.op)
        if rule is None:
            return Unread(f"{node.op} is no op of a law ({node.line})")
        found = rule(self, node)
        if isinstance(found, Unread) and not found.reason.endswith(")"):
            return Unread(f"{found.reason} ({self._line(node)})")
        if number(found) is None and isinstance(found, Drawn) and self._is_cast(node, value):
            return Unread(f"draws cast to {str(value.dtype).removeprefix('torch.')} ({node.line})")
        return Factor("r") if isinstance(found, Factor) and found.part == "q" and value.index == 1 else found


def _refs(argument: Any) -> list[Ref]:
    if isinstance(argument, Ref):
        return [argument]
    return [r for part in argument for r in _refs(part)] if isinstance(argument, (tuple, list)) else []
