"""What a propagation knows: moments of every value, and of every weight op's gradient by transposing the walk."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stepzero.moments._signal import Signal
from stepzero.network import Graph


@dataclass
class Flow:
    """Predicted moments of a whole forward pass."""

    graph: Graph
    signals: dict[int, Signal]  # by value id
    taps: dict[int, Tensor] = field(default_factory=dict)  # by node id, for weight ops
    probed: tuple[str, ...] = ()  # "op (at module)" of ops that were measured on random tensors, not predicted
    passed: tuple[str, ...] = ()  # ops that could not even be measured: their operand's moments passed, with the reason

    _gradients: dict[int, float] | None = field(default=None, init=False, repr=False)  # once asked for

    def second(self, value: int) -> float:
        """Predicted E[x²], averaged over the activation."""
        s = self.signals[value]
        return s.average(s.second)

    def gradients(self) -> dict[int, float]:
        """Return E[g²] at each weight op's output, for an output gradient of independent unit noise (by node id)."""
        if self._gradients is None:
            self._gradients = self._transposed()
        return dict(self._gradients)

    def _transposed(self) -> dict[int, float]:
        signals = (self.signals.get(v) for v in dict.fromkeys(self.graph.outputs))
        totals = [_whole(s, s.tangent.second) for s in signals if s is not None and s.tangent is not None]
        totals = [t for t in totals if t.requires_grad]
        if not totals:
            return {}
        nodes = list(self.taps)
        loss = torch.stack(totals).sum()
        grads = torch.autograd.grad(loss, [self.taps[n] for n in nodes], allow_unused=True, retain_graph=True)
        sizes = [torch.Size(self.graph.values[self.graph.nodes[n].outputs[0]].shape).numel() for n in nodes]
        return {n: 0.0 if g is None else float(g) / k for n, g, k in zip(nodes, grads, sizes, strict=True)}


def _whole(s: Signal, t: Tensor) -> Tensor:
    """Sum a lean tensor over the whole shape."""
    return t.sum() * (torch.Size(s.shape).numel() / max(1, t.numel()))
