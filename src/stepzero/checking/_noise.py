"""How far a finite net strays from its prediction: log variances, accumulated along the graph.

A layer's mean square over n channels fluctuates from draw to draw by v/n, and later layers inherit it, so a deep
narrow net is off by bits although every weight is right. For a layer with activation φ, v = Cov[φ(z)², φ(z')²] /
E[φ²]² at the correlation of its sites (5 for ReLU once all sites agree; Hanin & Rolnick 2018, arXiv:1803.01719).
A normalisation fixes mean and variance of what it puts out, so of φ² only the Hermite orders from 3 on still fluctuate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np

from stepzero.moments import Flow, Pointwise, Signal, count
from stepzero.network import Graph, Node

RESETS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"})


@dataclass(frozen=True, slots=True)
class Fresh:
    """A Gaussian value whose activation is pending: where its fluctuations come from.

    Args:
        alike: Mean squared correlation of its sites.
        channels: Independent channels.
        normalised: Whether its mean and variance are fixed.
    """

    alike: float
    channels: int
    normalised: bool = False

    def excess(self, signal: Signal) -> float:
        """Return the log variance that an activation adds to what its preactivation already carries."""
        if self.normalised:
            return square_covariance(signal, sqrt(self.alike), first=3) / self.channels
        return max(0.0, square_covariance(signal, sqrt(self.alike)) - 2.0 * self.alike) / self.channels


def accumulate(flow: Flow, alike: Mapping[int, float], channels: Mapping[int, int]) -> dict[int, tuple[float, float]]:
    """Return, for each weight op, the log variance of its input and that of its output.

    Args:
        flow: The predicted moments.
        alike: Mean squared correlation of the sites of each weight op's output (by node id), measured.
        channels: Output channels of each weight op.

    Noise that reaches a join along several paths is taken as fully shared, which is the larger estimate.
    """
    graph = flow.graph
    carried: dict[int, float] = {}  # log variance of a value as later layers inherit it
    fresh: dict[int, Fresh] = {}  # by value
    result: dict[int, tuple[float, float]] = {}
    for node in graph.nodes:
        before = _inherited(flow, node, carried)
        if node.id in alike:
            k, n = alike[node.id], channels[node.id]
            result[node.id] = before, before + 2.0 * k / n
            for out in node.outputs:
                carried[out] = before + 2.0 * k / n
                fresh[out] = Fresh(k, n)
            continue
        here = 0.0 if node.op in RESETS else before
        for out in node.outputs:
            carried[out] = here + _activation_excess(flow, graph, out, fresh)
            if node.op in RESETS and out in flow.signals:
                fresh[out] = _normalised(flow.signals[out])
            elif (source := _single(node, fresh)) is not None:
                fresh[out] = fresh[source]
    return result


def expected_alike(signal: Signal) -> float:
    """Return the mean squared correlation of two sites (places and inputs), from the predicted pair moments."""
    q = signal.average(signal.second)
    if q <= 0:
        return 1.0
    places, inputs = count(signal.roles, "position"), count(signal.roles, "batch")
    elsewhere, across, apart = ((signal.average(t) / q) ** 2 for t in (signal.elsewhere, signal.across, signal.apart))
    pairs = 1 + (places - 1) * elsewhere + (inputs - 1) * across + (places - 1) * (inputs - 1) * apart
    return min(1.0, pairs / (places * inputs))


def _normalised(signal: Signal) -> Fresh:
    return Fresh(expected_alike(signal), max(1, count(signal.roles, "channel")), normalised=True)


def _single(node: Node, fresh: Mapping[int, Fresh]) -> int | None:
    """The one operand with a pending weight op, if there is exactly one."""
    found = [v for v in dict.fromkeys(node.inputs) if v in fresh]
    return found[0] if len(found) == 1 else None


def _inherited(flow: Flow, node: Node, carried: Mapping[int, float]) -> float:
    """Combine the operands' noise by their shares of the sum."""
    operands = [v for v in dict.fromkeys(node.inputs) if v in carried and v in flow.signals]
    if not operands:
        return 0.0
    if len(operands) == 1:
        return carried[operands[0]]
    seconds = [max(flow.second(v), 0.0) for v in operands]
    total = sum(seconds) or 1.0
    return sum(s / total * sqrt(carried[v]) for s, v in zip(seconds, operands, strict=True)) ** 2


def _activation_excess(flow: Flow, graph: Graph, value: int, fresh: Mapping[int, Fresh]) -> float:
    """Return what an activation adds to the log variance."""
    node = graph.producer(value)
    signal = flow.signals.get(value)
    if node is None or signal is None or signal.source is None:
        return 0.0
    source = _single(node, fresh)
    if source is None or (before := flow.signals.get(source)) is None or before.source is not None:
        return 0.0
    return fresh[source].excess(signal)


def square_covariance(signal: Signal, correlation: float, first: int = 1) -> float:
    """Return Cov[φ(z)², φ(z')²] / E[φ²]² for a pending φ of a Gaussian at its average moments, Hermite orders from `first` on."""
    assert signal.source is not None
    phi, root = signal.source.phi, signal.source.root
    assert isinstance(phi, Pointwise)
    mean = root.average(root.mean)
    sd = sqrt(max(root.average(root.second) - mean**2, 0.0))
    squared = Pointwise(f"({phi.key})²", lambda z: phi.function(z) ** 2, phi.kinks)
    a = squared.expand(np.array([mean]), np.array([sd])).coefficients[0]
    powers = correlation ** np.arange(a.size)
    return float(np.sum(a[first:] ** 2 * powers[first:]) / max(a[0] ** 2, 1e-300))
