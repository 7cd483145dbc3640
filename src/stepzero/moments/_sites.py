"""The weight ops of a flow, one by one: where they are, which parameter they use, and what one puts out for a given input."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from torch import Tensor

from stepzero.moments._call import Call
from stepzero.moments._flow import Flow
from stepzero.moments._propagate import Fixed
from stepzero.moments._weights import CHANNEL_AXIS, OPERATORS, input_argument, is_weight_op, weight_argument
from stepzero.network import Node


def weight_sites(flow: Flow) -> Iterator[tuple[Node, int, int]]:
    """Yield each weight op in recording order, with the value that it reads and the axis of its output channels."""
    for node in flow.graph.nodes:
        x = input_argument(node)
        if x is not None and node.outputs[0] in flow.signals and is_weight_op(node, flow.signals):
            rank = len(flow.graph.values[node.outputs[0]].shape)
            yield node, x, CHANNEL_AXIS.get(node.op, 1 if node.op.startswith("conv") else -1) % rank


def weight_name(flow: Flow, node: Node) -> str:
    """Return the parameter that sets the scale of a weight op, or the op and its module where none does."""
    w = weight_argument(node)
    signal = flow.signals.get(w) if w is not None else None
    if signal is not None and signal.knob is not None:
        return signal.knob.parameter
    return f"{node.module}.{node.op}" if node.module else node.op


def expected_output(flow: Flow, node: Node, square: Tensor) -> float:
    """Return E[y²] of a weight op over its weight's law, for a measured map of x².

    Exact in expectation for iid zero-mean weights: no moment rule is involved (He et al. 2015, eq. 7).

    Args:
        flow: The predicted moments, which hold the weight's second moment.
        node: The weight op.
        square: x², lean: any axis of size 1 stands for all.
    """
    x, w = input_argument(node), weight_argument(node)
    assert x is not None
    assert w is not None
    weight = flow.signals[w]
    op = OPERATORS[node.op](Call(flow.graph, node, flow.signals, Fixed()), flow.signals[x], weight)
    second = float(op.variance(square).mean()) * weight.average(weight.second)
    bias = node.arguments.get("bias", node.arguments.get("self"))
    signal = flow.signals.get(getattr(bias, "id", -1))
    return second + (signal.average(signal.second) if signal is not None else 0.0)


def centred(flow: Flow, node: Node) -> bool:
    """Say whether the rows of an op's weight sum to zero (weight standardisation)."""
    w = weight_argument(node)
    return w is not None and w in flow.signals and flow.signals[w].centred


def expected_mean_part(flow: Flow, node: Node, x: Tensor) -> float:
    """Return what a centred weight leaves out of `expected_output`: E[w²] · (Σ x over a window)² / n, averaged."""
    xi, w = input_argument(node), weight_argument(node)
    assert xi is not None
    assert w is not None
    weight = flow.signals[w]
    op = OPERATORS[node.op](Call(flow.graph, node, flow.signals, Fixed()), flow.signals[xi], weight)
    total = float(op.variance(x).square().mean())
    return weight.average(weight.second) * total / weights_of_one_output(flow, node)


def weights_of_one_output(flow: Flow, node: Node) -> int:
    """Return how many weights an output element of a weight op is a sum over, at most (kernel taps times channels)."""
    w, x = weight_argument(node), input_argument(node)
    assert w is not None
    assert x is not None
    shape = flow.graph.values[w].shape
    if node.op in ("linear", "addmm", "mm", "matmul", "_grouped_mm"):
        return max(1, flow.graph.values[x].shape[-1])
    channels = flow.graph.values[x].shape[1] // int(node.arguments.get("groups", 1))
    return max(1, channels * prod(shape[2:]))
