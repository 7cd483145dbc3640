"""Where policies may speak: heads, embeddings, tables, scales, gates and modulations, found in the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from stepzero.moments import MOVES, input_argument
from stepzero.network import Graph, Node, Ref

from ._attention import mixers, query_rows
from ._branches import Branch, all_branches, residual_joins, weight_nodes
from ._slots import SCALING, Slot

CELLS = {"lstm": 4, "lstm_cell": 4, "gru": 3, "gru_cell": 3} | dict.fromkeys(
    ("rnn_tanh", "rnn_relu", "rnn_tanh_cell", "rnn_relu_cell"), 1
)  # gates by op
ADDS = frozenset({"add", "sub", "cat", "concat"})
TRANSPOSED = frozenset({"addmm", "mm", "matmul", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})


@dataclass(frozen=True)
class Recurrent:
    """The parameters of one layer and direction of a recurrent op."""

    node: Node
    gates: int
    input: str
    hidden: str
    biases: tuple[str, ...]
    projection: str | None


@dataclass(frozen=True)
class Scene:
    """A captured model as policies look at it."""

    graph: Graph
    use: Mapping[str, list[Slot]]

    @cached_property
    def owners(self) -> dict[int, str]:
        """The parameter that each weight op multiplies by."""
        return {slot.node.id: name for name, uses in self.use.items() for slot in uses if slot.role == "weight"}

    @cached_property
    def branches(self) -> list[Branch]:
        """Every residual branch."""
        return all_branches(self.graph)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a parameter."""
        return self.graph.values[self.graph.parameters[name]].shape

    def heads(self) -> list[int]:
        """Weight ops whose output leaves the model, through data movement at most."""
        found: dict[int, None] = {}
        for value in self.graph.outputs:
            node = self._through_moves(value)
            if node is not None and node.id in self.owners:
                found[node.id] = None
        return list(found)

    def queries(self) -> dict[int, Tensor]:
        """Weight ops of this model's own parameters that make queries, with a mask of the outputs that are some."""
        return query_rows(self.graph, set(self.owners))

    def mixers(self) -> list[int]:
        """Weight ops that mix the shares of a softmax."""
        return mixers(self.graph, set(self.owners))

    def lookups(self) -> list[int]:
        """Weight ops that read learned tables, and nothing of the model's inputs or of fixed numbers alone."""
        read = {n: input_argument(self.graph.nodes[n]) for n in self.owners}
        values = self.graph.values
        return [n for n, v in read.items() if v is not None and values[v].from_parameter and not values[v].from_input]

    def embeddings(self) -> Iterator[tuple[str, Node, bool]]:
        """Tables that an embedding reads: name, op, and whether a weight op multiplies by the same table."""
        for name, uses in self.use.items():
            reads = [s.node for s in uses if s.node.op == "embedding" and s.argument == "weight"]
            if reads:
                yield name, reads[0], any(s.role == "weight" for s in uses)

    def used_by(self, ops: frozenset[str]) -> Iterator[str]:
        """Parameters of no weight op, norm or embedding whose first use is one of these ops."""
        for name, uses in self.use.items():
            if uses and uses[0].role == "other" and uses[0].node.op in ops:
                yield name

    def branch_scales(self) -> dict[str, int]:
        """Parameters that multiply a residual branch just before its join, with the join: LayerScale, SkipInit, ReZero."""
        by_node = {s.node.id: name for name, uses in self.use.items() for s in uses if s.node.op in SCALING}
        found = {}
        for join, (_, branch) in residual_joins(self.graph).items():
            for node in self._trail(branch):
                if node.id in by_node and node.op == "mul":
                    found[by_node[node.id]] = join
        return found

    def recurrent(self) -> Iterator[Recurrent]:
        """Layers of recurrent ops and cells, each direction by itself."""
        for node in self.graph.nodes:
            if node.op in CELLS:
                names = self._names(node)
                size = 2 + 2 * self._has_biases(node)
                size += any(
                    len(self.shape(n)) == 2 and self.shape(n)[0] < self.shape(n)[1] for n in names[size : size + 1]
                )
                yield from (self._layer(node, names[i : i + size]) for i in range(0, len(names) - size + 1, size))

    def modulations(self) -> list[int]:
        """Weight ops whose output, cut into parts, only multiplies and shifts signals that are not its own (adaLN)."""
        uses = self.graph.uses()
        return [n for n in self.owners if self._modulates(self.graph.nodes[n], uses)]

    def width(self, node: int) -> int:
        """Channels that a weight op reads."""
        shape = self.shape(self.owners[node])
        return shape[0] if self.graph.nodes[node].op in TRANSPOSED else shape[1]

    def reads_input(self, node: int) -> bool:
        """Whether no weight stands before a weight op."""
        first = input_argument(self.graph.nodes[node])
        weights, queue, seen = weight_nodes(self.graph), [first] if first is not None else [], set()
        while queue:
            maker = self.graph.producer(queue.pop())
            if maker is None or maker.id in seen:
                continue
            if maker.id in weights or maker.op == "embedding":
                return False
            seen.add(maker.id)
            queue.extend(maker.inputs)
        return True

    def _through_moves(self, value: int) -> Node | None:
        node = self.graph.producer(value)
        while node is not None and node.op in MOVES and node.inputs:
            node = self.graph.producer(node.inputs[0])
        return node

    def _trail(self, value: int) -> Iterator[Node]:
        """Walk back through moves and products, from a branch's end."""
        queue, seen = [value], {value}
        while queue:
            node = self.graph.producer(queue.pop())
            if node is None or not (node.op in MOVES or node.op in SCALING or node.op == "dropout"):
                continue
            yield node
            fresh = [v for v in node.inputs if v not in seen and self.graph.values[v].from_input]
            seen.update(fresh)
            queue.extend(fresh)

    def _names(self, node: Node) -> list[str]:
        """Canonical names of the parameters of a recurrent op, in its own order."""
        by_value = {v: name for name, v in self.graph.parameters.items() if self.graph.values[v].names[0] == name}
        given = [a for key in ("params", "w_ih", "w_hh", "b_ih", "b_hh") if (a := node.arguments.get(key)) is not None]
        refs = [r for a in given for r in (a if isinstance(a, (list, tuple)) else [a])]
        return [by_value[r.id] for r in refs if isinstance(r, Ref) and r.id in by_value]

    def _has_biases(self, node: Node) -> bool:
        return bool(node.arguments.get("has_biases", node.arguments.get("b_ih") is not None))

    def _layer(self, node: Node, names: list[str]) -> Recurrent:
        biases = tuple(n for n in names if len(self.shape(n)) == 1)
        projection = next((n for n in names[2:] if len(self.shape(n)) == 2), None)
        return Recurrent(node, CELLS[node.op], names[0], names[1], biases, projection)

    def _modulates(self, node: Node, uses: Mapping[int, list[Node]]) -> bool:
        queue, seen, products = list(node.outputs), set(node.outputs), 0
        while queue:
            value = queue.pop()
            for user in uses.get(value, []):
                others = [v for v in user.inputs if v != value and self.graph.values[v].from_input]
                if user.op in MOVES or (user.op == "add" and not others):
                    fresh = [out for out in user.outputs if out not in seen]
                    seen.update(fresh)
                    queue.extend(fresh)
                elif user.op not in ("mul", "add") or any(v in seen for v in others):
                    return False
                else:
                    products += user.op == "mul"
        return products >= 1 and len(seen) > 2
