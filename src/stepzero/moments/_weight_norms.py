"""Rules for weights that the graph itself rescales: standardised rows, a direction with its own length, a spectral norm of 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch

from stepzero.errors import NoRuleError
from stepzero.moments._call import Call, tensor64
from stepzero.moments._flow import Flow
from stepzero.moments._joins import binary, divide
from stepzero.moments._signal import Knob, Moments, Signal
from stepzero.moments._weights import weight_argument
from stepzero.network import Graph, Node, Ref
from stepzero.theory._power_iteration import OverNorm, over_norm


def standardised_weight(call: Call, w: Signal) -> Signal:
    """Weight standardisation: each row gets mean 0 and variance gain² (Qiao et al. 2019; Brock et al. 2021)."""
    gain = call.operand("weight") if call.node.arguments.get("weight") is not None else None
    second = 1.0 if gain is None else gain.average(gain.second)
    knob = None if gain is None else gain.knob
    return rescaled(w, second, knob, centred=True)


def weight_norm(call: Call) -> Signal:
    """w = g·v/|v|: E[w²] = E[g²] / (elements of v for each g) (Salimans & Kingma 2016, eq. 2)."""
    v, g = call.need("v"), call.operand("g")
    n = prod(v.shape) / prod(g.shape)
    knob = None if g.knob is None else Knob(g.knob.parameter, g.knob.factor / n)
    return rescaled(v, g.average(g.second) / n, knob)


@dataclass(frozen=True, slots=True)
class PowerIteration:
    """How a graph finds the spectral norm σ = uᵀWv that it divides a weight by."""

    root: int  # the value that is W in its own shape
    images: int  # rows of the matrix that meets the first direction
    starts: int  # its columns
    iterations: int  # from a random direction

    @property
    def quotient(self) -> OverNorm:
        """The moments of W/σ."""
        return over_norm(self.images, self.starts, self.iterations)


def divided(call: Call) -> Signal:
    """A quotient; of a weight by its own spectral norm, E[(w/σ)²] after the power iterations that the vectors have seen.

    Where all singular values are alike, σ is their value after one iteration. Else the law of the weight cancels but for its shape: exact for normals, a few percent low for narrow uniform weights (5 % at width 8).
    """
    found = spectral_norm(call.graph, call.node)
    if found is None:
        return binary(divide)(call)
    if not found.iterations:
        raise NoRuleError(
            f"spectral norm (at {call.where}) divides by uᵀWv of random u and v, which may be anything near 0: its vectors see the "
            f"weight in train mode only"
        )
    w, whole = call.need("self"), call.signals.get(found.root)
    if whole is not None and _equal_directions(whole, found):
        return over_length(w, whole)
    return rescaled(w, found.quotient.second, None)


def weight_scatter(flow: Flow, node: Node) -> float:
    """Return the relative variance, from draw to draw, of the mean square of the weight that an op multiplies by."""
    w = weight_argument(node)
    made = None if w is None else flow.graph.producer(w)
    found = None if made is None else spectral_norm(flow.graph, made)
    if found is None or not found.iterations:
        return 0.0
    whole = flow.signals.get(found.root)
    return 0.0 if whole is not None and _equal_directions(whole, found) else found.quotient.scatter


def _equal_directions(whole: Signal, found: PowerIteration) -> bool:
    """Say whether the matrix that is iterated has equal singular values: not where another axis than the first makes its rows."""
    sides = {whole.shape[0], prod(whole.shape[1:])}
    return whole.isometric and sides == {found.images, found.starts}


def over_length(w: Signal, whole: Signal) -> Signal:
    """Return a weight over its largest singular value, where that is the length of its longest row or column."""
    square = whole.second.expand(whole.shape).flatten(1)
    longest = max(float(square.sum(0).max()), float(square.sum(1).max()))
    m = w.moments.times(1.0 / longest)
    return Signal(w.shape, w.roles, m)


def iterated(call: Call) -> tuple[None]:
    """What power iteration computes on its way is no signal; other products with a vector are measured."""
    if not is_power_iteration(call.graph, call.node):
        raise NoRuleError(f"no propagation rule for {call.op} (at {call.where})")
    return (None,)


def is_power_iteration(graph: Graph, node: Node) -> bool:
    """Say whether a product with a vector serves a spectral norm alone."""
    if node.op != "mv":
        return False
    root = _root(graph, node.arguments["self"])
    scales = (n for n in graph.nodes if spectral_norm(graph, n) is not None)
    return any(_root(graph, n.arguments["self"]) == root for n in scales)


def spectral_norm(graph: Graph, node: Node) -> PowerIteration | None:
    """Return how the divisor of a weight was found, if it is uᵀWv of that same weight W."""
    dot = _maker(graph, node.arguments.get("other")) if node.op == "div" else None
    if dot is None or dot.op not in DOTS:
        return None
    root = _root(graph, node.arguments["self"])
    products = list(_products(graph, dot, root))
    if not products or not graph.values[root].from_parameter:
        return None
    images, starts = graph.values[products[0].arguments["self"].id].shape
    sigmas = sum(n.op in DOTS and _factor(graph, n) in products for n in graph.nodes[: dot.id + 1])
    built = CONSTRUCTED if "parametrizations" in node.module.split(".") else 0
    return PowerIteration(root, images, starts, built + (len(products) - sigmas) // 2)


def _products(graph: Graph, dot: Node, root: int) -> Iterator[Node]:
    """Yield the products of a weight with vectors, up to the one that makes uᵀWv; none if that is another weight's."""
    last = _factor(graph, dot)
    if last is not None and last.op == "mv" and _root(graph, last.arguments["self"]) == root:
        for node in graph.nodes[: dot.id]:
            if node.op == "mv" and _root(graph, node.arguments["self"]) == root:
                yield node


def _factor(graph: Graph, dot: Node) -> Node | None:
    """Return what made the second vector of a scalar product."""
    return _maker(graph, dot.arguments.get("other", dot.arguments.get("tensor")))


def _maker(graph: Graph, ref: object) -> Node | None:
    return graph.producer(ref.id) if isinstance(ref, Ref) else None


def _root(graph: Graph, ref: Ref) -> int:
    """Return the value that a matrix is another view of."""
    value = ref.id
    while (node := graph.producer(value)) is not None and node.op in VIEWS:
        value = node.inputs[0]
    return value


CONSTRUCTED = 15  # power iterations in the constructor of parametrizations.spectral_norm, before the first forward pass
DOTS = frozenset({"dot", "vdot"})
VIEWS = frozenset({"flatten", "reshape", "view", "permute", "t", "matrix_H", "transpose", "mT"})


def rescaled(w: Signal, second: float, knob: Knob | None, *, centred: bool = False) -> Signal:
    """Return a weight whose elements have mean 0 and this second moment, whatever they were drawn from."""
    q = tensor64(second).reshape((1,) * len(w.shape))
    zero = torch.zeros_like(q)
    return Signal(w.shape, w.roles, Moments(zero, q, zero, zero, q, zero), knob=knob, centred=centred)
