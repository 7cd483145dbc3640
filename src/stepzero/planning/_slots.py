"""What each parameter is for: the op and argument that it reaches through data movement alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stepzero.moments import MOVES, is_power_iteration, spectral_norm, weight_argument
from stepzero.network import Graph, Node, Ref

NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"})
SCALING = frozenset({"mul", "div"})  # a weight times a number or a fixed scale is still that weight


@dataclass(frozen=True, slots=True)
class Slot:
    """A use of a parameter."""

    node: Node
    argument: str
    standardises: bool = False  # the op normalises a weight, not a signal
    spectral: bool = False  # the op finds a weight's spectral norm, or divides by it

    @property
    def role(self) -> str:
        """weight, direction, magnitude, norm scale, shift, standardised, spectral or other."""
        if self.spectral:
            return "spectral"
        if self.node.op == "_weight_norm":
            return {"v": "direction", "g": "magnitude"}.get(self.argument, "other")
        if self.node.op in NORMS:
            return {"weight": "norm scale", "bias": "shift", "input": "standardised"}.get(self.argument, "other")
        w = weight_argument(self.node)
        if w is None:
            return "other"
        if self.argument == "bias" or (self.node.op == "addmm" and self.argument == "self"):
            return "shift"
        given = self.node.arguments[self.argument]
        return "weight" if isinstance(given, Ref) and given.id == w else "other"


def slots(graph: Graph) -> dict[str, list[Slot]]:
    """Return, for each canonical parameter name, its uses in recording order."""
    uses = graph.uses()
    return {
        name: sorted(_follow(graph, v, uses), key=lambda slot: slot.node.id)
        for name, v in graph.parameters.items()
        if graph.values[v].names[0] == name
    }


def _follow(graph: Graph, value: int, uses: Mapping[int, list[Node]]) -> Iterator[Slot]:
    """Walk from a parameter through moves and fixed scales to the ops that compute with it."""
    queue, seen = [value], {value}
    while queue:
        v = queue.pop()
        for node in uses.get(v, []):
            passes = node.op in MOVES or (node.op in SCALING and _fixed_scale(graph, node, v))
            if passes:
                fresh = [out for out in node.outputs if out not in seen]
                seen.update(fresh)
                queue.extend(fresh)
                continue
            for argument, given in node.arguments.items():
                if isinstance(given, Ref) and given.id == v:
                    yield Slot(node, argument, _on_weight(graph, node), _spectral(graph, node))
                elif isinstance(given, (list, tuple)) and any(isinstance(g, Ref) and g.id == v for g in given):
                    yield Slot(node, argument)


def _on_weight(graph: Graph, node: Node) -> bool:
    x = node.arguments.get("input")
    return isinstance(x, Ref) and graph.values[x.id].from_parameter and not graph.values[x.id].from_input


def _spectral(graph: Graph, node: Node) -> bool:
    return spectral_norm(graph, node) is not None or is_power_iteration(graph, node)


def _fixed_scale(graph: Graph, node: Node, value: int) -> bool:
    """Say whether a product is that of the parameter with numbers known in advance."""
    others = [a.id for a in node.arguments.values() if isinstance(a, Ref) and a.id != value]
    return all(not graph.values[v].from_input and not graph.values[v].from_parameter for v in others)
