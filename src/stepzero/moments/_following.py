"""Where inputs of a batch begin to differ in energy on a walk through a graph, and where they are averaged again."""

from __future__ import annotations

from dataclasses import dataclass, field

from stepzero.moments import _roles as R
from stepzero.moments._energies import drawn_for_each_input, evened, grow, scatter, strayed, varies
from stepzero.moments._pointwise import pending
from stepzero.moments._signal import Signal
from stepzero.moments._table import KEEP_INPUTS
from stepzero.moments._weights import input_argument, is_weight_op
from stepzero.network import Graph, Node


@dataclass
class Following:
    """Follows the inputs of a batch one by one, in graphs where it matters: see `_energies`."""

    graph: Graph
    dropped: dict[int, float] = field(
        default_factory=dict
    )  # Var/E² of the number a map was multiplied by for each input

    def __post_init__(self) -> None:
        """Look whether energies grow here."""
        self.needed = grow(self.graph)

    def even(self, node: Node, signals: dict[int, Signal]) -> None:
        """Go on with an average input where an op mixes the inputs of a batch, or might."""
        if not self.needed:
            return
        leading = {self.graph.values[v].shape[:1] for v in node.outputs}
        for v in set(node.inputs):
            x = signals.get(v)
            if x is None or x.tangent is None or not varies(x):
                continue
            if node.op not in KEEP_INPUTS or leading != {x.shape[:1]}:
                signals[v] = pending(evened(x.source.root), x.source.phi) if x.source else evened(x)

    def strayed(self, node: Node, y: Signal, signals: dict[int, Signal]) -> Signal:
        """Let energies stray by what an op adds: dense weights read finitely many channels, sums take branches that are dropped."""
        if not self.needed or R.count(y.roles, "position") == 1:
            return y
        if node.op in ("mul", "multiply"):
            self.dropped[node.outputs[0]] = sum(drawn_for_each_input(signals[v]) for v in node.inputs if v in signals)
        elif node.op in ("add", "sub") and any(self.dropped.get(v) for v in node.inputs):
            return strayed(y, sum(self._share(v, y, signals) for v in node.inputs))
        x = input_argument(node)
        if x is None or not is_weight_op(node, signals) or self._keeps_channels(node, x):
            return y
        return strayed(y, scatter(signals[x]))

    def _share(self, v: int, y: Signal, signals: dict[int, Signal]) -> float:
        """Return what a dropped branch adds to the variance of a sum's energies."""
        lost = self.dropped.get(v, 0.0)
        return lost * (signals[v].average(signals[v].second) / y.average(y.second)) ** 2 if lost else 0.0

    def _keeps_channels(self, node: Node, x: int) -> bool:
        """Say whether a convolution is depthwise."""
        return bool(node.arguments.get("groups", 1) == self.graph.values[x].shape[1] > 1)
