"""One forward pass as a graph, without the model's weights."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stepzero.errors import CaptureError, ModelError
from stepzero.network._calm import (
    below_autograd,
    clear_caches_holding_meta,
    eager_switches,
    random_state_kept,
)
from stepzero.network._graph import Graph
from stepzero.network._inputs import ModelInputs, TensorSpec, real_inputs
from stepzero.network._meta import stand_in
from stepzero.network._recorder import META, Recorder
from stepzero.network._scope import Scope
from stepzero.network._twin import Leaf, Twin, twin_of
from stepzero.network._walk import tensors_in


def capture(model: nn.Module, inputs: Any, *, training: bool | None = None) -> Graph:
    """Return the graph of one forward pass of `model`.

    The pass runs on meta tensors and on a copy of the model: no weight is read, copied or allocated. The model, its
    buffers, its mode and the global random state stay as they are.

    Args:
        model: Any eager model, on any device, meta included.
        inputs: A tensor, a tuple of tensors, a shape, a list of shapes, a text form, or
            `{"args": ..., "kwargs": ...}`; see `ModelInputs.of`.
        training: The mode to capture in; None keeps the model's own.

    Raises:
        InputError: if the inputs do not describe a call that the model accepts.
        ModelError: if the model cannot be read: not a module, no parameters, lazily shaped ones.
        CaptureError: if the forward pass cannot be recorded.
    """
    call = ModelInputs.of(inputs)
    with random_state_kept(), eager_switches():
        try:
            return attempt(model, call, RUNGS[0], training)
        finally:
            clear_caches_holding_meta()


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to run the forward pass."""

    name: str
    on_meta: bool
    below: bool


RUNGS = (
    Rung("meta", on_meta=True, below=True),
    Rung("meta+autograd", on_meta=True, below=False),
    Rung("real", on_meta=False, below=True),
    Rung("real+autograd", on_meta=False, below=False),
)


def attempt(model: nn.Module, call: ModelInputs, rung: Rung, training: bool | None) -> Graph:
    """Capture on one rung of the ladder."""
    graph, scope = Graph(rung=rung.name), Scope()
    recorder = Recorder(graph, scope, on_meta=rung.on_meta)
    twin = twin_of(model, on_meta=rung.on_meta)
    if training is not None:
        twin.model.train(training)
    graph.modules = {path: type(module).__name__ for path, module in model.named_modules()}
    _register_leaves(recorder, twin)
    homes = _register_inputs(recorder, model, call)
    scope.watch(twin.model)
    with scope.autograd_functions(), below_autograd(rung.below), recorder:
        output = twin.model(*homes.args, **homes.kwargs)
    _finish(recorder, output)
    return graph


def _register_leaves(recorder: Recorder, twin: Twin) -> None:
    for leaf in twin.leaves:
        kind = "parameter" if leaf.parameter else "buffer"
        value = recorder.leaf(leaf.home, kind, tuple(leaf.names), _buffer_numbers(leaf))
        table = recorder.graph.parameters if leaf.parameter else recorder.graph.buffers
        table |= dict.fromkeys(leaf.names, value.id)
        for tensor in leaf.copies:
            recorder.stand_ins[id(tensor)] = leaf.home


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
        if home not in recorder.tape:
            recorder.graph.inputs[name] = recorder.leaf(home, "input", (name,)).id
    for tensor in _flat(real):
        if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
            given = not isinstance(sources[id(tensor)], TensorSpec)
            _know(recorder, homes[id(tensor)], tensor.detach().cpu().clone(), certain=given)
    return moved


def _flat(call: ModelInputs) -> list[Any]:
    """Return tensors and specs of a call in order."""
    found: list[Any] = []
    call.changed(lambda thing: found.append(thing) or thing)
    return found


def _know(recorder: Recorder, home: torch.Tensor, numbers: torch.Tensor, *, certain: bool) -> None:
    """Let control flow read an integer input; where only its type was given, ones are assumed."""
    recorder.known.put(home, numbers, certain=certain)
    value = recorder.tape.read(home, lambda entry, write: write.value)
    recorder.known.show(home, recorder.graph.values[value])


def _finish(recorder: Recorder, output: Any) -> None:
    graph = recorder.graph
    tensors = [recorder.at_home(tensor) for tensor in tensors_in(output)]
    graph.outputs = [recorder.value_of(tensor) for tensor in tensors]
    if not graph.outputs:
        raise CaptureError("the forward pass returns no tensor. Wrap the model so that it returns what is trained on.")
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
