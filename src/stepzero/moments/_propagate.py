"""One walk through a graph: every value's moments, and by the transpose of the same walk every gradient's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from stepzero.errors import InputError, NoRuleError
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Load, Rule, Weights
from stepzero.moments._probe import _neighbours, probed
from stepzero.moments._signal import Knob, Moments, Signal, zero
from stepzero.moments._table import RULES
from stepzero.moments._weights import OPERATORS, input_argument, weight_argument
from stepzero.network import Graph, Node, Value

OnUnknown = Literal["probe", "error", "identity"]


@dataclass(frozen=True)
class Fixed:
    """Weights whose laws are given: nothing is left to decide."""

    def settle(self, call: Call, weight: Signal, load: Load) -> Signal:
        """Return the weight as it is."""
        return weight


@dataclass
class Flow:
    """Predicted moments of a whole forward pass."""

    graph: Graph
    signals: dict[int, Signal]  # by value id
    taps: dict[int, Tensor] = field(default_factory=dict)  # by node id, for weight ops
    probed: tuple[str, ...] = ()  # "op (at module)" of ops that were measured, not predicted

    def second(self, value: int) -> float:
        """Predicted E[x²], averaged over the activation."""
        s = self.signals[value]
        return s.average(s.second)

    def gradients(self) -> dict[int, float]:
        """Return E[g²] at each weight op's output, for an output gradient of independent unit noise (by node id)."""
        totals = [
            _over_all(s, s.carrier) for v in dict.fromkeys(self.graph.outputs)
            if (s := self.signals.get(v)) is not None and s.carrier.requires_grad
        ]
        if not totals:
            return {}
        nodes = list(self.taps)
        grads = torch.autograd.grad(
            torch.stack(totals).sum(), [self.taps[n] for n in nodes], allow_unused=True, retain_graph=True
        )
        sizes = [torch.Size(self.graph.values[self.graph.nodes[n].outputs[0]].shape).numel() for n in nodes]
        return {n: 0.0 if g is None else float(g) / k for n, g, k in zip(nodes, grads, sizes, strict=True)}


def _over_all(s: Signal, t: Tensor) -> Tensor:
    """Sum a lean tensor over the whole shape."""
    return t.sum() * (torch.Size(s.shape).numel() / max(1, t.numel()))


def propagate(
    graph: Graph,
    inputs: Mapping[str, Moments | Tensor] | None,
    parameters: Mapping[str, tuple[Tensor, Tensor]],
    *,
    weights: Weights | None = None,
    rules: Mapping[str, Rule] = RULES,
    on_unknown: OnUnknown = "probe",
    buffers: Mapping[str, Tensor] | None = None,
) -> Flow:
    """Follow the moments of every value through a graph, in recording order.

    Args:
        graph: A captured forward pass.
        inputs: For each floating input, its numbers (then its own moments are measured) or its moments; an input
            that is not listed is taken as white N(0, 1).
        parameters: Mean and second moment of each parameter's elements, lean (broadcastable to its shape).
        weights: Who decides about weights on the way (a planner); by default the parameters stand as given.
        rules: One rule for each op name.
        on_unknown: What happens at an op without a rule: measure it alone, raise, or let it pass.
        buffers: Numbers of buffers that the graph does not know.

    Raises:
        NoRuleError: names the op and its place.
    """
    walk = _Walk(graph, dict(inputs or {}), parameters, weights or Fixed(), rules, on_unknown, dict(buffers or {}))
    walk.leaves()
    for node in graph.nodes:
        walk.visit(node)
    return Flow(graph, walk.signals, walk.taps, tuple(dict.fromkeys(walk.probed)))


class _Walk:
    """The state of one propagation."""

    def __init__(
        self,
        graph: Graph,
        inputs: dict[str, Moments | Tensor],
        parameters: Mapping[str, tuple[Tensor, Tensor]],
        weights: Weights,
        rules: Mapping[str, Rule],
        on_unknown: OnUnknown,
        buffers: dict[str, Tensor],
    ) -> None:
        self.graph, self.inputs, self.parameters = graph, inputs, parameters
        self.weights, self.rules, self.on_unknown, self.buffers = weights, rules, on_unknown, buffers
        self.signals: dict[int, Signal] = {}
        self.taps: dict[int, Tensor] = {}
        self.probed: list[str] = []
        self.remaining = _last_uses(graph)

    def leaves(self) -> None:
        """Give parameters and floating inputs their signals."""
        last = _channel_last_inputs(self.graph)
        for name, v in self.graph.inputs.items():
            value = self.graph.values[v]
            if value.dtype.is_floating_point:
                self.signals[v] = input_signal(value, self.inputs.get(name), channel_last=v in last)
        for name, v in self.graph.parameters.items():
            value = self.graph.values[v]
            if v not in self.signals and name == value.names[0] and name in self.parameters:
                self.signals[v] = parameter_signal(value, *self.parameters[name])

    def visit(self, node: Node) -> None:
        """Apply the node's rule and keep the signals of its outputs."""
        if not any(v in self.signals for v in node.inputs):
            return
        outputs = [self.graph.values[v] for v in node.outputs]
        if not any(v.dtype.is_floating_point or v.dtype.is_complex for v in outputs):
            return
        call = Call(self.graph, node, self.signals, self.weights)
        result = self._rule(call)
        for v, signal in zip(node.outputs, result, strict=False):
            if signal is not None:
                self.signals[v] = self._tapped(call, signal)

    def _rule(self, call: Call) -> tuple[Signal | None, ...]:
        rule = self.rules.get(call.op)
        if rule is not None:
            try:
                result = rule(call)
            except NoRuleError:
                if self.on_unknown == "error":
                    raise
                result = None
            if result is not None:
                return result if isinstance(result, tuple) else (result,)
        return self._unknown(call)

    def _unknown(self, call: Call) -> tuple[Signal | None, ...]:
        place = f"{call.op} (at {call.where})"
        if self.on_unknown == "error":
            raise NoRuleError(
                f"no propagation rule for {place}. To add one: plan(..., rules=RULES | {{{call.op!r}: my_rule}}); "
                f"to measure it on random tensors: on_unknown='probe'"
            )
        self.probed.append(place)
        if self.on_unknown == "identity":
            return _passed(call)
        result = probed(call)
        return result if isinstance(result, tuple) else (result,)

    def _tapped(self, call: Call, signal: Signal) -> Signal:
        """Put a tap on a weight op's output, where its gradient will be read."""
        if not is_weight_op(call.node, self.signals) or call.node.id in self.taps:
            return signal
        tap = torch.zeros((), dtype=torch.float64, requires_grad=True)
        self.taps[call.node.id] = tap
        return Signal(signal.shape, signal.roles, signal.moments, signal.carrier + tap)


def is_weight_op(node: Node, signals: Mapping[int, Signal]) -> bool:
    """Say whether a node multiplies its input by a weight."""
    w, x = weight_argument(node), input_argument(node)
    if w is None or x is None or w not in signals or x not in signals:
        return False
    return node.op not in ("matmul", "mm") or signals[w].knob is not None


def input_signal(value: Value, given: Moments | Tensor | None, *, channel_last: bool = False) -> Signal:
    """Return an input's signal: measured from its numbers, as given, or white N(0, 1)."""
    roles = R.guess(value.shape, channel_last=channel_last)
    one = (1,) * len(value.shape)
    if isinstance(given, Moments):
        return Signal(value.shape, roles, given, zero())
    if given is None:
        mean, unit = torch.zeros(one, dtype=torch.float64), torch.ones(one, dtype=torch.float64)
        return Signal(value.shape, roles, Moments(mean, unit, mean, mean, mean, mean), zero())
    x = given.detach().to(torch.float64)
    if not bool(torch.isfinite(x).all()):
        raise InputError(f"input {'/'.join(value.names)} has values that are not finite; pass a clean batch")
    return Signal(value.shape, roles, measure(x, roles), zero())


def measure(x: Tensor, roles: R.Roles) -> Moments:
    """Measure the six moments of a batch, averaged over channels, places and inputs (lean: all axes of size 1)."""
    one = (1,) * x.dim()
    places, inputs = R.axes(roles, "position"), R.axes(roles, "batch")
    p, b = max(1, R.count(roles, "position")), max(1, R.count(roles, "batch"))

    def total(t: Tensor, dims: Iterable[int]) -> Tensor:
        dims = tuple(dims)
        return t.sum(dim=dims, keepdim=True) if dims else t

    mean, second = x.mean(), x.square().mean()
    floor = mean**2
    own = total(x, places).square().mean() / p  # (q + (p-1) e)
    over = total(x, inputs).square().mean() / b  # (q + (b-1) a)
    both = total(x, [*places, *inputs]).square().mean() / (p * b)
    elsewhere = (own - second) / (p - 1) if p > 1 else second
    across = (over - second) / (b - 1) if b > 1 else floor
    rest = both - second - (p - 1) * elsewhere - (b - 1) * across
    apart = rest / ((p - 1) * (b - 1)) if p > 1 and b > 1 else (across if p == 1 else floor)
    near = _neighbours([x], places, elsewhere.reshape(one))
    return Moments(*(t.reshape(one) for t in (mean, second, near, elsewhere, across, apart)))


def parameter_signal(value: Value, mean: Tensor, second: Tensor) -> Signal:
    """Return a parameter's signal: iid elements, the same for every input."""
    rank = len(value.shape)
    mean, second = (t.reshape((1,) * (rank - t.dim()) + tuple(t.shape)) for t in (mean, second))
    others = mean**2
    roles = tuple(((n, "copy"),) if n > 1 else () for n in value.shape)
    return Signal(
        value.shape, roles, Moments(mean, second, others, others, second, others), zero(), knob=Knob(value.names[0])  # type: ignore[arg-type]
    )


def _passed(call: Call) -> tuple[Signal | None, ...]:
    """Let the first operand's averages pass an unknown op unchanged."""
    x = next(call.signals[v] for v in call.node.inputs if v in call.signals)
    results: list[Signal | None] = []
    for shape in call.shapes:
        one = (1,) * len(shape)
        m = x.moments.each(lambda t, one=one: t.mean().reshape(one))  # type: ignore[misc]
        results.append(Signal(shape, R.guess(shape), m, x.carrier.mean().reshape(one)))
    return tuple(results)


def _last_uses(graph: Graph) -> dict[int, int]:
    """Return, for each value, the last node that reads it."""
    return {v: node.id for node in graph.nodes for v in node.inputs}


def _channel_last_inputs(graph: Graph) -> set[int]:
    """Inputs of rank ≥ 3 whose first computing op works along the last axis (linear, layer norm)."""
    uses = graph.uses()
    found = set()
    for v in graph.inputs.values():
        queue, seen = [v], {v}
        while queue:
            for node in uses.get(queue.pop(0), []):
                if node.op in ("linear", "layer_norm", "addmm", "rms_norm", "lstm", "gru", "rnn_tanh"):
                    found.add(v)
                    queue = []
                    break
                if node.op in OPERATORS or node.op in ("batch_norm", "group_norm", "instance_norm"):
                    queue = []
                    break
                fresh = [o for o in node.outputs if o not in seen and len(graph.values[o].shape) == len(graph.values[v].shape)]
                seen.update(fresh)
                queue.extend(fresh)
    return found
