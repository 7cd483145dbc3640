"""One attempt at recording a forward pass: twin, leaves, hooks, the run, and what follows from its output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from stepzero.errors import CaptureError
from stepzero.network._calm import below_autograd
from stepzero.network._data import DataKept
from stepzero.network._graph import Graph, Kind
from stepzero.network._inputs import ModelInputs, TensorSpec, real_inputs
from stepzero.network._meta import stand_in
from stepzero.network._recorder import Recorder
from stepzero.network._scope import Scope, canonical_path
from stepzero.network._twin import Leaf, Twin, twin_of
from stepzero.network._walk import tensors_in


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to run the forward pass."""

    name: str
    on_meta: bool  # False: on real tensors, which control flow on activations asks for
    below: bool  # False: with autograd, which a model may call inside


@dataclass(slots=True)
class Attempt:
    """A forward pass under way; it still says where it was when it failed."""

    rung: Rung
    graph: Graph = field(default_factory=Graph)
    scope: Scope = field(default_factory=Scope)
    recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        self.graph.rung = self.rung.name
        self.recorder = Recorder(self.graph, self.scope, on_meta=self.rung.on_meta)

    def run(self, model: nn.Module, call: ModelInputs, training: bool | None) -> Graph:
        """Record one forward pass of a twin of `model`."""
        twin = twin_of(model, on_meta=self.rung.on_meta)
        if training is not None:
            twin.model.train(training)
        self.graph.modules = {canonical_path(path): type(m).__name__ for path, m in model.named_modules()}
        _register_leaves(self.recorder, twin)
        homes = _register_inputs(self.recorder, model, call)
        self.scope.watch(twin.model)
        with (
            self.scope.autograd_functions(),
            below_autograd(self.rung.below),
            DataKept(self.recorder.writer.known),
            self.recorder,
        ):
            output = twin.model(*homes.args, **homes.kwargs)
        _finish(self.recorder, output)
        return self.graph

    def cut_short(self) -> Graph:
        """Return what was recorded before the pass failed; the signals that no other one was made of count as its outputs."""
        graph = self.graph
        signals = {v.id for v in graph.values if v.node is not None and v.from_input and v.dtype.is_floating_point}
        read = {v for node in graph.nodes if signals.intersection(node.outputs) for v in node.inputs}
        graph.outputs = sorted(signals - read)
        _account(graph)
        return graph

    def where(self) -> str:
        """Return the module, and the op with its shapes, that ran last: `features.0 (Conv2d), conv2d((1, 4, 8, 8), ...)`."""
        path = self.scope.here.path
        module = f"{path or 'the root module'} ({self.graph.modules.get(path, '')})"
        return f"{module}, {self.recorder.failed}" if self.recorder.failed else module


def _register_leaves(recorder: Recorder, twin: Twin) -> None:
    for leaf in twin.leaves:
        kind: Kind = "parameter" if leaf.parameter else "buffer"
        value = recorder.writer.leaf(leaf.home, kind, leaf.names, _buffer_numbers(leaf))
        table = recorder.writer.graph.parameters if leaf.parameter else recorder.writer.graph.buffers
        table |= dict.fromkeys(leaf.names, value.id)
        for tensor in leaf.copies:
            recorder.border.stand_ins[id(tensor)] = leaf.home


def _buffer_numbers(leaf: Leaf) -> torch.Tensor | None:
    """Return a copy of a buffer's numbers; those of parameters are what initialisation is about to change."""
    if leaf.parameter or leaf.original.device.type == "meta":
        return None
    return leaf.original.detach().cpu().clone()


def _register_inputs(recorder: Recorder, model: nn.Module, call: ModelInputs) -> ModelInputs:
    real = real_inputs(call)
    sources = {id(home): source for home, source in zip(_flat(real), _flat(call), strict=True)}
    homes: dict[int, torch.Tensor] = {}

    def register(tensor: torch.Tensor) -> torch.Tensor:
        home = stand_in(tensor) if recorder.on_meta else tensor.detach().cpu().clone()
        return homes.setdefault(id(tensor), home)

    moved = real.changed(register)
    for name, home in moved.named(model.forward).items():
        if home not in recorder.writer.tape:
            recorder.writer.graph.inputs[name] = recorder.writer.leaf(home, "input", (name,)).id
    for tensor in _flat(real):
        if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
            given = not isinstance(sources[id(tensor)], TensorSpec)
            _know(recorder, homes[id(tensor)], tensor.detach().cpu().clone(), certain=given)
    return moved


def _flat(call: ModelInputs) -> list[Any]:
    """Return tensors and specs of a call in order."""
    found: list[Any] = []

    def note(thing: Any) -> Any:
        found.append(thing)
        return thing

    call.changed(note)
    return found


def _know(recorder: Recorder, home: torch.Tensor, numbers: torch.Tensor, *, certain: bool) -> None:
    """Let control flow read an integer input; where only its type was given, ones are assumed."""
    recorder.writer.known.put(home, numbers, certain=certain)
    value = recorder.writer.tape.read(home, lambda entry, write: write.value)
    recorder.writer.known.show(home, recorder.writer.graph.values[value])


def _finish(recorder: Recorder, output: Any) -> None:
    graph = recorder.writer.graph
    tensors = [recorder.border.at_home(tensor) for tensor in tensors_in(output)]
    graph.outputs = [recorder.writer.read(tensor) for tensor in tensors]
    if not graph.outputs:
        raise CaptureError(
            f"the forward pass returns a {type(output).__name__} without a tensor in it. "
            "Wrap the model so that it returns what is trained on."
        )
    _account(graph)


def _account(graph: Graph) -> None:
    """Note which parameters nobody reads, and which reach no output."""
    read = {value for node in graph.nodes for value in node.inputs} | set(graph.outputs)
    alive = reaching(graph, graph.outputs)
    graph.unused = tuple(name for name, value in graph.parameters.items() if value not in read)
    graph.dead = tuple(name for name, value in graph.parameters.items() if value in read and value not in alive)


def reaching(graph: Graph, targets: list[int]) -> set[int]:
    """Return the values from which a path leads to one of the targets."""
    alive = set(targets)
    for node in reversed(graph.nodes):
        if alive.intersection(node.outputs):
            alive.update(node.inputs)
    return alive
