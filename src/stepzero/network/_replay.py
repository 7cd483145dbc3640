"""Run a recorded graph on real tensors: the proof that it says what the model does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from stepzero.errors import CaptureError
from stepzero.network._graph import Graph, Node, Ref, Value
from stepzero.network._inputs import ModelInputs, real_inputs
from stepzero.network._names import buffer_slots, parameter_slots
from stepzero.network._ops import schema_of, tensors_of

Observe = Callable[[Value, torch.Tensor], torch.Tensor]


def leaves(graph: Graph, model: nn.Module, inputs: Any) -> dict[int, torch.Tensor]:
    """Return the real tensors behind parameters, buffers and inputs, by value id.

    Inputs that were given as shapes are drawn (`real_inputs`).
    """
    slots = (*parameter_slots(model).values(), *buffer_slots(model).values())
    named = {name: slot.tensor for slot in slots for name in slot.names}
    found = {value: named[name] for name, value in (*graph.parameters.items(), *graph.buffers.items())}
    given = real_inputs(ModelInputs.of(inputs, model)).named(model.forward)
    return found | {value: given[name] for name, value in graph.inputs.items()}


def replay(graph: Graph, tensors: Mapping[int, torch.Tensor], observe: Observe | None = None) -> list[torch.Tensor]:
    """Execute a graph and return its outputs.

    In-place ops write to copies, so that the tensors given stay as they are; gradients flow as in the model where grad
    mode is on. Random ops draw from the global generator in recording order.

    Args:
        graph: What `capture` returned.
        tensors: The leaves, by value id (see `leaves`). Constants come from the graph.
        observe: Called with each value that a node made; what it returns is used in its place.
    """
    live = {v.id: _constant(v) for v in graph.values if v.kind == "constant"}
    live |= {key: t.clone() if graph.values[key].kind == "buffer" else t for key, t in tensors.items()}
    device = next((t.device for t in tensors.values()), torch.device("cpu"))
    last = _last_uses(graph)
    for node in graph.nodes:
        made = run(node, live, device)
        for value, tensor in zip(node.outputs, made, strict=True):
            live[value] = tensor if observe is None else observe(graph.values[value], tensor)
        for value in last.get(node.id, ()):
            live.pop(value, None)
    return [live[value] for value in graph.outputs]


def _constant(value: Value) -> torch.Tensor:
    if value.known is None:
        raise CaptureError(
            f"a constant of shape {value.shape} lives on meta: the model made it there, without numbers."
        )
    return value.known


def run(node: Node, live: Mapping[int, torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """Run one node on live tensors and return what it makes, in the order of `node.outputs`."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and node.grad):
        if node.func is None:
            new: list[torch.Tensor] = []
            copies = {node.arguments["old"].id: alias_update(node, live)}
        else:
            new, copies = _run_op(node, live, device)
    overwritten = copies.items()
    if torch.is_grad_enabled() and not node.grad:
        return [*new, *(_pass_gradient(live[key], tensor) for key, tensor in overwritten)]
    return [*new, *(tensor for _, tensor in overwritten)]


def _run_op(
    node: Node, live: Mapping[int, torch.Tensor], device: torch.device
) -> tuple[list[torch.Tensor], dict[int, torch.Tensor]]:
    """Return what an op returned that is new, and the copies that it wrote to by the value that they replace."""
    copies = {ref.id: live[ref.id].clone() for ref in _written_refs(node)}

    def real(thing: Any) -> Any:
        if isinstance(thing, Ref):
            return copies[thing.id] if thing.id in copies else live[thing.id]
        if isinstance(thing, torch.device):
            return device
        if isinstance(thing, (tuple, list)):
            return type(thing)(real(part) for part in thing)
        return thing

    func = SUBSTITUTES.get(node.op, node.func)
    result = func(*real(node.args), **{name: real(a) for name, a in node.kwargs.items()})
    return [t for t in tensors_of(result) if not any(t is copy for copy in copies.values())], copies


def _histc(values: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Count in floats: models ask for the device first, since integers are counted on accelerators and meta only."""
    floats = values if values.is_floating_point() else values.float()
    return torch.histc(floats, *args, **kwargs).to(values.dtype)


SUBSTITUTES: Mapping[str, Callable[..., Any]] = MappingProxyType({"histc": _histc})


def _pass_gradient(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Return numbers that autograd did not see written, with the gradient of the value that they overwrote."""
    if not old.requires_grad or old.shape != new.shape:
        return new
    passed: torch.Tensor = PassToOverwritten.apply(old, new.detach())  # type: ignore[no-untyped-call]
    return passed


class PassToOverwritten(torch.autograd.Function):
    """The second argument, with the gradient of the first."""

    @staticmethod
    def forward(ctx: Any, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Return the new numbers."""
        return new.view_as(new)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Pass the gradient to the old value."""
        return grads[0], None


def alias_update(node: Node, live: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """Return the old view with the elements that the write touched taken from the new one."""
    a = node.arguments
    old, new = live[a["old"].id], live[a["new"].id]
    places = torch.full((a["numel"],), -1, dtype=torch.int64)
    size, stride, offset = a["new_geometry"]
    places.as_strided(size, stride, offset).copy_(torch.arange(new.numel()).reshape(size))
    size, stride, offset = a["old_geometry"]
    where = places.as_strided(size, stride, offset).to(old.device)
    taken = new.reshape(-1)[where.clamp(min=0).reshape(-1)].reshape(old.shape)
    return torch.where(where >= 0, taken, old)


def _written_refs(node: Node) -> list[Ref]:
    written = schema_of(node.func).written
    return [ref for name, argument in node.arguments.items() if name in written for ref in _refs(argument)]


def _refs(argument: Any) -> list[Ref]:
    if isinstance(argument, Ref):
        return [argument]
    return [ref for part in argument for ref in _refs(part)] if isinstance(argument, (tuple, list)) else []


def _last_uses(graph: Graph) -> dict[int, list[int]]:
    """Return the values that are no longer needed after each node."""
    last: dict[int, int] = {}
    for node in graph.nodes:
        needed = {ref.id for argument in node.arguments.values() for ref in _refs(argument)} | set(node.outputs)
        last |= dict.fromkeys(needed, node.id)
    table: dict[int, list[int]] = {}
    for value, node_id in last.items():
        if value not in graph.outputs:
            table.setdefault(node_id, []).append(value)
    return table
