"""From the graph of a constructor to the origin of each parameter and buffer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from stepzero.errors import LawError, ModelError
from stepzero.laws import Constant, Mapped, Normal, Norms, TruncatedNormal, Uniform
from stepzero.network._boxes import covers, within
from stepzero.network._contents import Content, Empty, Lengths, Mixed, Numbers, Unread, law_of, settled
from stepzero.network._graph import Graph
from stepzero.network._history import story, told
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
    all_held: list[_Held] = []
    first: dict[int, _Held] = {}  # value that was made of draws → who holds it first
    for parameter, slot in slots:
        if is_lazy(slot.tensor):
            raise ModelError(f"{slot.name} has no shape yet: the module is lazy. Give the sizes in the constructor.")
        home = recorder.border.at_home(slot.tensor)
        all_held.append(_Held(slot.name, home, parameter, recorder.writer.read(home)))
        first.setdefault(_root(reader.graph, all_held[-1].value), all_held[-1])
    return {held.name: _origin(held, reader, recorder, first) for held in all_held}


def _origin(held: _Held, reader: Reader, recorder: Recorder, first: Mapping[int, _Held]) -> Origin:
    shape, content = tuple(held.tensor.shape), reader.content(held.value)
    parts = (_lengths(held, content, reader, first),) if isinstance(content, Lengths) else _parts(content, shape)
    root = _root(reader.graph, held.value)
    copy_of = first[root].name if first[root].name != held.name and reader.draws(root) else ""
    writes = [write.value for write in recorder.writer.tape.writes(held.tensor)]
    history = tuple(map(told, story(reader.graph, writes or [held.value])))
    return Origin(held.name, shape, held.tensor.dtype, held.parameter, parts, history, copy_of)


def _parts(content: Content, shape: tuple[int, ...]) -> tuple[Part, ...]:
    """Return what a tensor holds, box by box; one part where all boxes together follow one law."""
    if not isinstance(content, Mixed):
        return (_part(content, shape),)
    boxes = list(_flat(content))
    boxed = [replace(_part(inner, tuple(s.stop - s.start for s in box)), where=box) for box, inner in boxes]
    if not covers([box for box, _ in boxes], shape):
        return (_part(content.base, shape), *boxed)
    law = boxed[0].law
    alike = isinstance(law, (Normal, Uniform, TruncatedNormal, Mapped, Constant)) and all(
        part.law == law for part in boxed
    )
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


def _lengths(held: _Held, content: Lengths, reader: Reader, first: Mapping[int, _Held]) -> Part:
    """Return lengths of another tensor of the model, or, where none holds those values, of a draw in their own stream."""
    owner = first.get(_root(reader.graph, content.of))
    same = owner is not None and tuple(owner.tensor.shape) == content.shape
    kept = [axis for axis in range(len(content.shape)) if axis not in content.along]
    if len(kept) > 1:
        line = node.line if (node := reader.graph.producer(held.value)) is not None else ""
        return Part(reason=f"lengths along axes {content.along} of shape {content.shape} have no law ({line})")
    try:
        name = owner.name if owner is not None and same else held.name
        law = Norms(name, content.law, content.shape, kept[0] if kept else None)
        law.require(tuple(held.tensor.shape))
    except LawError as error:
        return Part(reason=str(error))
    return Part(law=law)


def _root(graph: Graph, value: int) -> int:
    """Return the value whose numbers, all of them, a value holds unchanged."""
    size = math.prod(graph.values[value].shape)
    while (node := graph.producer(value)) is not None and not node.random and node.op in SOURCES:
        source = node.arguments[SOURCES[node.op]].id
        if math.prod(graph.values[source].shape) != size:
            break
        value = source
    return value


# Ops whose result holds the numbers of an argument unchanged and in order, and which.
SOURCES = MappingProxyType(
    {"copy": "src", "alias_update": "new", "set": "source"}
    | dict.fromkeys(("clone", "detach", "view", "reshape", "contiguous", "alias"), "self")
)
