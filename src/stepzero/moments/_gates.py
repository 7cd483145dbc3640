"""Maps under a gate that scales whole channels (squeeze-and-excite): what is homogeneous acts on the map, the gate stays outside."""

from __future__ import annotations

from math import prod

from stepzero.moments import _activations as A
from stepzero.moments import _pointwise as P
from stepzero.moments._call import Call
from stepzero.moments._joins import multiply
from stepzero.moments._paths import CARRIES, upstream
from stepzero.moments._signal import Signal, widen

GATES = frozenset(("sigmoid", "hardsigmoid", "softmax"))  # none of them is negative
FAR = 4.0  # standard deviations: a kink out there (of ReLU6) is not met


def pointwise(call: Call) -> Signal:
    """φ(g·x) = g·φ(x) for ReLU and its like behind a gate; any other function is one of the whole product, as if Gaussian.

    The gate is a number of its own for each input, which all places of a channel share: as a Gaussian, relu(g·x) would
    have the variance of g·x everywhere, a mean 7 % too high, and none of what places of one input have in common beyond
    those of two. Behind a norm that is all that a mean over the map sees: 2.7 times less than there is (ReXNet).
    """
    parts = gated(call)
    if parts is None:
        return A.pointwise(call)
    phi, (x, gate) = A.function_of(call, call.main), parts
    if not _homogeneous(phi, call.operand(call.main)):
        return A.pointwise(call)
    y = P.apply(phi, x)
    return multiply(call, y, widen(gate, y.shape, y.roles))


def gated(call: Call) -> tuple[Signal, Signal] | None:
    """Return the map and its gate, if the operand is a map times one number in [0, 1] for each channel."""
    maker = call.graph.producer(call.node.arguments[call.main].id)
    if maker is None or maker.op not in ("mul", "multiply") or len(maker.inputs) != 2:
        return None
    values = [call.graph.values[v] for v in maker.inputs]
    for x, gate in (values, values[::-1]):
        single = len(gate.shape) == len(x.shape) > 2 and prod(gate.shape[2:]) == 1 < prod(x.shape[2:])
        if single and upstream(call.graph, gate.id, GATES, CARRIES) is not None:
            found = call.signals.get(x.id), call.signals.get(gate.id)
            kept = all(s is not None and s.tangent is not None for s in found)
            return (found[0], found[1]) if kept and found[0] and found[1] else None
    return None


def _homogeneous(phi: P.Pointwise, x: Signal) -> bool:
    """Say whether φ(s·x) = s·φ(x) for s in [0, 1] wherever x is."""
    if phi.linear is None:
        return False
    near = [k for k in phi.linear.kinks if abs(k) < FAR * x.average(x.second) ** 0.5]
    return phi.linear.intercept == 0.0 and not any(near)
