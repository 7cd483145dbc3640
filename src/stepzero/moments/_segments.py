"""The sum of the terms between two places, as graphs write it: a running sum less itself along another axis."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stepzero.network import Graph, Node, Ref


@dataclass(frozen=True)
class Segment:
    """S_i - S_j of a running sum S, which two new axes made a table of (Dao & Gu 2024, listing 1; gated delta rules)."""

    total: Node  # the running sum
    axis: int  # of its terms, and the first of the table's two
    left: int  # where S_i got its new axis
    right: int  # where S_j did

    @property
    def axes(self) -> tuple[int, int]:
        """The table's rows and columns."""
        return self.axis, self.axis + 1

    def across(self, t: Tensor) -> Tensor:
        """Return t_i - t_j of a map of the running sum."""
        return t.unsqueeze(self.left) - t.unsqueeze(self.right)

    def forward_only(self, hidden: Tensor, rank: int) -> bool:
        """Say whether a mask of the table, which has so many axes, leaves no j > i to be seen."""
        axes = [a - rank for a in self.axes]
        if hidden.dim() < -axes[0]:
            return False
        shown = (~hidden.bool()).movedim(axes, (-2, -1))
        return not bool((shown.triu(1) if self.left > self.right else shown.tril(-1)).any())


def segment(graph: Graph, node: Node | None) -> Segment | None:
    """Return what a difference stands for, if it is that."""
    if node is None or node.op != "sub" or float(node.arguments.get("alpha") or 1.0) != 1.0:
        return None
    refs = [node.arguments.get(k) for k in ("self", "other")]
    views = [graph.producer(r.id) for r in refs if isinstance(r, Ref)]
    if len(views) < 2 or any(v is None or v.op != "unsqueeze" for v in views):
        return None
    (one, p), (other, q) = ((v.inputs[0], int(v.arguments["dim"])) for v in views if v is not None)
    total = graph.producer(one)
    if one != other or total is None or total.op != "cumsum":
        return None
    rank = len(graph.values[one].shape)
    axis, left, right = int(total.arguments["dim"]) % rank, p % (rank + 1), q % (rank + 1)
    return Segment(total, axis, left, right) if {left, right} == {axis, axis + 1} else None
