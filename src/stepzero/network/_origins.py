"""From the graph of a constructor to the origin of each parameter and buffer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from stepzero.errors import ModelError
from stepzero.laws import Constant, Normal, TruncatedNormal, Uniform
from stepzero.network._boxes import covers, within
from stepzero.network._contents import Content, Empty, Mixed, Numbers, Unread, law_of, settled
from stepzero.network._graph import Graph, Node
from stepzero.network._init_rules import RULES
from stepzero.network._names import buffer_slots, parameter_slots
from stepzero.network._origin import Origin, Part
from stepzero.network._reader import Reader
from stepzero.network._recorder import Recorder


@dataclass(frozen=True, slots=True)
class _Held:
    """One parameter or buffer of the finished model."""

    name: str
    tensor: torch.Tensor
    parameter: bool
    value: int


def origins(model: nn.Module, recorder: Recorder, unsure: dict[int, str]) -> dict[str, Origin]:
    """Return how each tensor of a finished model came by its values, parameters first.

    Raises:
        ModelError: if a parameter has no shape yet.
    """
    reader = Reader(recorder.writer.graph, RULES, unsure)
    slots = [(True, slot) for slot in parameter_slots(model).values()]
    slots += [(False, slot) for slot in buffer_slots(model).values()]
    found: dict[str, Origin] = {}
    first: dict[int, str] = {}  # draw → who holds it
    for parameter, slot in slots:
        if is_lazy(slot.tensor):
            raise ModelError(f"{slot.name} has no shape yet: the module is lazy. Give the sizes in the constructor.")
        home = recorder.border.at_home(slot.tensor)
        held = _Held(slot.name, home, parameter, recorder.writer.read(home))
        source = _draw(recorder.writer.graph, held.value)
        owner = "" if source is None else first.setdefault(source, slot.name)
        found[slot.name] = _origin(held, reader, recorder, "" if owner == slot.name else owner)
    return found


def _origin(held: _Held, reader: Reader, recorder: Recorder, copy_of: str) -> Origin:
    shape, parts = tuple(held.tensor.shape), _parts(reader.content(held.value), tuple(held.tensor.shape))
    writes = recorder.writer.tape.writes(held.tensor)
    nodes = [reader.graph.producer(value) for value in ([write.value for write in writes] or [held.value])]
    history = tuple(_told(node) for node in nodes if node is not None)
    return Origin(held.name, shape, held.tensor.dtype, held.parameter, parts, history, copy_of)


def _told(node: Node) -> str:
    """Return an op with its numbers and the line that ran it: `normal_(mean=0, std=0.02) at timm/layers/weight_init.py:50`."""
    numbers = ((name, thing) for name, thing in node.arguments.items() if isinstance(thing, (int, float)))
    settings = ", ".join(f"{name}={thing:.6g}" for name, thing in numbers)
    return f"{node.op.removeprefix('init::')}({settings}) at {node.line}"


def _parts(content: Content, shape: tuple[int, ...]) -> tuple[Part, ...]:
    """Return what a tensor holds, box by box; one part where all boxes together follow one law."""
    if not isinstance(content, Mixed):
        return (_part(content, shape),)
    boxes = list(_flat(content))
    boxed = [replace(_part(inner, tuple(s.stop - s.start for s in box)), where=box) for box, inner in boxes]
    if not covers([box for box, _ in boxes], shape):
        return (_part(content.base, shape), *boxed)
    law = boxed[0].law
    alike = isinstance(law, (Normal, Uniform, TruncatedNormal, Constant)) and all(part.law == law for part in boxed)
    return (Part(law=law),) if alike else tuple(boxed)


def _flat(content: Mixed) -> Iterator[tuple[tuple[slice, ...], Content]]:
    """Yield the boxes of a mixture, those of mixtures within them taken apart."""
    for box, inner in content.boxes:
        if not isinstance(inner, Mixed):
            yield box, inner
            continue
        nested = [(within(box, place), part) for place, part in _flat(inner)]
        if any(place is None for place, _ in nested):
            yield box, Unread("a mixture was reshaped into part of a tensor")
            continue
        if not covers([place for place, _ in inner.boxes], tuple(s.stop - s.start for s in box)):
            yield box, inner.base
        yield from ((place, part) for place, part in nested if place is not None)


def _part(content: Content, shape: tuple[int, ...]) -> Part:
    content = settled(content)
    if (law := law_of(content, shape)) is not None:
        return Part(law=law)
    if isinstance(content, Numbers):
        return Part(values=content.tensor)
    if isinstance(content, Empty):
        return Part(reason="nothing was ever written to it")
    reason = content.reason if isinstance(content, Unread) else f"{type(content).__name__.lower()} contents have no law"
    return Part(reason=reason)


def _draw(graph: Graph, value: int) -> int | None:
    """Return the random node whose numbers a value holds unchanged, or None."""
    node, size = graph.producer(value), math.prod(graph.values[value].shape)
    while node is not None and not node.random:
        place = SOURCES.get(node.op)
        node = None if place is None else graph.producer(node.arguments[place].id)
    whole = node is not None and math.prod(graph.values[node.outputs[0]].shape) == size
    return node.id if node is not None and whole else None


# Ops whose result holds the numbers of an argument unchanged, and which.
SOURCES = MappingProxyType({"copy": "src", "alias_update": "new", "clone": "self", "detach": "self", "view": "self"})
