"""One walk through a graph: every value's moments, and by the transpose of the same walk every gradient's."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Load, Rule, Weights, tensor64
from stepzero.moments._flow import Flow
from stepzero.moments._following import Following
from stepzero.moments._joins import summed
from stepzero.moments._leaves import channel_last_inputs, input_signal, parameter_signal
from stepzero.moments._probe import probed
from stepzero.moments._signal import Moments, Part, Signal, constant, nothing
from stepzero.moments._stream import Stream
from stepzero.moments._table import COMPLEX, RULES, SPONTANEOUS
from stepzero.moments._weights import is_weight_op
from stepzero.network import Graph, Node

LARGE = 1 << 14  # elements of a moment map
OnUnknown = Literal["probe", "error", "identity"]


@dataclass(frozen=True)
class Fixed:
    """Weights whose laws are given: nothing is left to decide."""

    def settle(self, call: Call, weight: Signal, load: Load) -> Signal:
        """Return the weight as it is."""
        return weight


def propagate(
    graph: Graph,
    inputs: Mapping[str, Signal | Moments | Tensor] | None,
    parameters: Mapping[str, tuple[Tensor, Tensor]],
    *,
    weights: Weights | None = None,
    rules: Mapping[str, Rule] = RULES,
    on_unknown: OnUnknown = "probe",
    buffers: Mapping[str, Tensor] | None = None,
    isometric: Collection[str] = (),
) -> Flow:
    """Follow the moments of every value through a graph, in recording order.

    Args:
        graph: A captured forward pass.
        inputs: For each floating input, its numbers (then its own moments are measured), its moments or its signal; an input
            that is not listed is taken as white N(0, 1).
        parameters: Mean and second moment of each parameter's elements, lean (broadcastable to its shape).
        weights: Who decides about weights on the way (a planner); by default the parameters stand as given.
        rules: One rule for each op name.
        on_unknown: What happens at an op without a rule: measure it alone (and let it pass where it cannot be run),
            raise, or let it pass.
        buffers: Numbers of buffers that the graph does not know.
        isometric: Parameters whose law draws matrices of equal singular values (`laws.isometric`).

    Raises:
        NoRuleError: names the op and its place.
    """
    walk = _Walk(graph, parameters, weights or Fixed(), rules, on_unknown, isometric)
    walk.leaves(dict(inputs or {}), dict(buffers or {}))
    for node in graph.nodes:
        walk.visit(node)
    return Flow(graph, walk.signals, walk.taps, tuple(dict.fromkeys(walk.probed)), tuple(dict.fromkeys(walk.passed)))


@dataclass
class _Walk:
    """The state of one propagation."""

    graph: Graph
    parameters: Mapping[str, tuple[Tensor, Tensor]]
    weights: Weights
    rules: Mapping[str, Rule]
    on_unknown: OnUnknown
    isometric: Collection[str] = ()
    signals: dict[int, Signal] = field(default_factory=dict)
    taps: dict[int, Tensor] = field(default_factory=dict)
    numbers: dict[Hashable, Signal] = field(default_factory=dict)
    probed: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    last_uses: dict[int, int] = field(default_factory=dict)
    inputs: Following = field(init=False)

    def __post_init__(self) -> None:
        """Learn where each value is read for the last time."""
        self.inputs = Following(self.graph)
        self.last_uses = {v: node.id for node in self.graph.nodes for v in node.inputs}

    def leaves(self, inputs: Mapping[str, Signal | Moments | Tensor], buffers: Mapping[str, Tensor]) -> None:
        """Give parameters, floating inputs and buffers that the graph does not know their signals."""
        last = channel_last_inputs(self.graph)
        for name, v in self.graph.inputs.items():
            value = self.graph.values[v]
            if value.dtype.is_floating_point or value.dtype.is_complex:
                self.signals[v] = input_signal(value, inputs.get(name), channel_last=v in last)
        for name, v in self.graph.parameters.items():
            value = self.graph.values[v]
            if v not in self.signals and name == value.names[0] and name in self.parameters:
                self.signals[v] = parameter_signal(value, *self.parameters[name], isometric=name in self.isometric)
        for name, v in self.graph.buffers.items():
            if v not in self.signals and self.graph.values[v].known is None and name in buffers:
                self.signals[v] = constant(buffers[name])

    def visit(self, node: Node) -> None:
        """Apply the node's rule and keep the signals of its outputs."""
        if not (node.random or node.op in SPONTANEOUS or any(v in self.signals for v in node.inputs)):
            return
        outputs = [v for v in (self.graph.values[out] for out in node.outputs) if v.known is None]
        if not any(v.dtype.is_floating_point or v.dtype.is_complex for v in outputs):
            return
        if all(0 in v.shape for v in outputs):  # no box was found
            self.signals.update((v.id, nothing(v.shape)) for v in outputs)
            return
        self.inputs.even(node, self.signals)
        call = Call(self.graph, node, self.signals, self.weights, self.numbers)
        for v, signal in zip(node.outputs, self._rule(call), strict=False):
            if signal is not None:
                signal = self.inputs.strayed(node, signal, self.signals)
                self.signals[v] = self._tapped(call, signal if node.grad and node.op != "detach" else stopped(signal))
        self._release(node)

    def _release(self, node: Node) -> None:
        """Keep of large maps that nobody reads any more their averages only."""
        for v in set(node.inputs):
            signal = self.signals.get(v)
            leaf = self.graph.values[v].node is None  # weights stay whole
            done = self.last_uses[v] == node.id and not leaf and v not in self.graph.outputs
            if done and signal is not None and signal.read and max(t.numel() for t in signal.moments) > LARGE:
                self.signals[v] = averaged(signal)

    def _rule(self, call: Call) -> tuple[Signal | None, ...]:
        rule, reason = self._rule_for(call), None
        if rule is not None:
            try:
                result = rule(call)
            except NoRuleError as error:
                result, reason = None, error
            if result is not None:
                return result if isinstance(result, tuple) else (result,)
        return self._unknown(call, reason)

    def _rule_for(self, call: Call) -> Rule | None:
        """Return the rule of an op; those of the table hold for complex numbers only where it says so."""
        rule = self.rules.get(call.op)
        values = (self.graph.values[v] for v in (*call.node.inputs, *call.node.outputs))
        if rule is RULES.get(call.op) and any(v.dtype.is_complex for v in values):
            return COMPLEX.get(call.op)
        return rule

    def _unknown(self, call: Call, reason: NoRuleError | None) -> tuple[Signal | None, ...]:
        place = f"{call.op} (at {call.where})"
        if self.on_unknown == "error":
            raise reason or NoRuleError(
                f"no propagation rule for {place}. To add one: plan(..., rules=RULES | {{{call.op!r}: my_rule}}); "
                f"to measure it on random tensors: on_unknown='probe'"
            )
        if self.on_unknown == "probe":
            try:
                return self._noted(self.probed, place, probed(call))
            except NoRuleError as error:
                reason = reason or error  # why the rule could not, rather than why random tensors could not
        return self._noted(self.passed, f"{place}: {reason}" if reason else place, passed(call))

    def _noted(
        self, notes: list[str], what: str, result: Signal | tuple[Signal | None, ...] | None
    ) -> tuple[Signal | None, ...]:
        notes.append(what)
        return result if isinstance(result, tuple) else (result,)

    def _tapped(self, call: Call, signal: Signal) -> Signal:
        """Put a tap on a weight op's output, where its gradient will be read."""
        if not is_weight_op(call.node, self.signals) or call.node.id in self.taps:
            return signal
        self.taps[call.node.id] = tap = torch.zeros((), dtype=torch.float64, requires_grad=True)
        zero = tensor64(0.0)
        own = Moments(zero, tap, *(zero,) * 4)
        tangent = summed([(signal.tangent, 1.0), (own, 1.0)])
        parts = [*signal.parts, Part(own, 0.0, 0.0)] if signal.parts else []
        few, tails = signal.unevenness, signal.tails
        return Signal(
            signal.shape, signal.roles, signal.moments, tangent, unevenness=few, tap=tap, parts=parts, tails=tails
        )


def averaged(x: Signal) -> Signal:
    """Return a signal of the same shape, with every moment replaced by its average."""
    m = x.moments.each(lambda t: t.mean().reshape((1,) * len(x.shape)))
    source = x.source
    if source is not None:
        root = averaged(source.root) if source.root.read else source.root
        source = replace(source, root=root, evaluate=lambda: (m, None))
    stream = x.stream if source is None else Stream()
    return Signal(
        x.shape,
        x.roles,
        m,
        source=source,
        knob=x.knob,
        centred=x.centred,
        known=x.known,
        stream=stream,
        rows=x.rows,
    )


def stopped(x: Signal) -> Signal:
    """Return the signal without its tangent: no gradient passes here."""
    return Signal(x.shape, x.roles, x.moments, knob=x.knob, centred=x.centred, known=x.known, stream=x.stream)


def passed(call: Call) -> tuple[Signal | None, ...]:
    """Let an op pass: every output takes over the average moments of the operand most like it."""
    operands = [s for v in call.node.inputs if (s := call.signals.get(v)) is not None]
    return tuple(_like(operands, shape) for shape in call.shapes)


def _like(operands: list[Signal], shape: tuple[int, ...]) -> Signal | None:
    if not operands:
        return None
    x = max(operands, key=lambda s: (s.shape == shape, torch.Size(s.shape).numel()))
    if x.shape == shape:
        return x
    m, tangent = x.mapped(lambda m: m.each(lambda t: t.mean().reshape((1,) * len(shape))))
    return Signal(shape, R.guess(shape), m, tangent)
