"""Build a model on meta and record the init that its own constructor meant."""

from __future__ import annotations

import contextlib
import random
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import _disable_current_modes

from stepzero.errors import ModelError
from stepzero.laws import Constant, Normal, TruncatedNormal, Uniform
from stepzero.network._calm import below_autograd, clear_caches_holding_meta, eager_switches, random_state_kept
from stepzero.network._contents import Content, Mixed, Numbers, Reader, Unread, covers, law_of, settled
from stepzero.network._data import DataKept
from stepzero.network._graph import Graph
from stepzero.network._names import buffer_slots, parameter_slots
from stepzero.network._origin import Origin, Part, Recording
from stepzero.network._recorder import Recorder
from stepzero.network._scope import Scope
from stepzero.network._walk import replace_tensors

_recordings: weakref.WeakKeyDictionary[nn.Module, Recording] = weakref.WeakKeyDictionary()


def build(factory: Callable[[], nn.Module]) -> nn.Module:
    """Return the model that `factory` makes, with its parameters on meta and its own init recorded.

    Buffers, index tables and whatever else the constructor computes from constants have their true values. Nothing is
    drawn; the global random states of torch, Python and NumPy stay as they are. `recording(model)` tells what was meant.

    Args:
        factory: Makes the model: a function without arguments, or a class.

    Raises:
        ModelError: if the factory raises, or returns no module; the message names the line.

    Examples:
        >>> model = build(lambda: nn.Linear(3, 4))
        >>> model.weight.device.type, recording(model)["weight"].law
        ('meta', Uniform(low=-0.57735, high=0.57735))
    """
    try:
        model, recorded = _build(factory, on_meta=True)
    except Exception:  # it reads random numbers, or it is wrong: then the real build says so
        model, recorded = _build_for_real(factory)
    _recordings[model] = recorded
    return model


def recording(model: nn.Module) -> Recording | None:
    """Return what `build` recorded of a model, or None if it was not built so."""
    return _recordings.get(model)


def _build_for_real(factory: Callable[[], nn.Module]) -> tuple[nn.Module, Recording]:
    try:
        return _build(factory, on_meta=False)
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        line = _line_of(error)
        raise ModelError(f"the factory raised {type(error).__name__} at {line}: {error}") from error


def _build(factory: Callable[[], nn.Module], *, on_meta: bool) -> tuple[nn.Module, Recording]:
    graph = Graph(rung="meta" if on_meta else "real")
    recorder = Recorder(graph, LineScope(), on_meta=on_meta)
    foreign = ForeignDraws()
    made: list[weakref.ref[torch.Tensor]] = []
    with (
        random_state_kept(),
        eager_switches(),
        below_autograd(True),
        _truncated_normals(recorder),
        foreign.watch(recorder),
    ):
        try:
            with AsOnCpu(recorder.writer.known), recorder:
                model = factory()
            if not isinstance(model, nn.Module):
                raise ModelError(f"the factory returned a {type(model).__name__}, not a torch.nn.Module.")
            recorded = Recording(MappingProxyType(_origins(model, recorder, foreign.found)), graph.rung, graph.assumed)
            _settle(model, recorder)
            made += recorder.writer.tape.made_on_meta()
        finally:
            clear_caches_holding_meta(made)
    return model, recorded


# While the constructor runs


class LineScope(Scope):
    """Knows the line of code instead of the module."""

    def line(self) -> str:
        """Return the innermost line that is neither torch's nor ours."""
        frame = sys._getframe(1)
        while frame is not None and _is_plumbing(frame.f_code.co_filename):
            frame = frame.f_back  # type: ignore[assignment]
        return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def _is_plumbing(file: str) -> bool:
    return (
        "/torch/" in file.replace("\\", "/")
        or "/stepzero/network/" in file.replace("\\", "/")
        or file.startswith("<frozen")
    )


def _line_of(error: BaseException) -> str:
    trace, place = error.__traceback__, ""
    while trace is not None:
        if not _is_plumbing(trace.tb_frame.f_code.co_filename):
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


class AsOnCpu(DataKept):
    """Lets constructors believe that their tensors are real: on meta, init functions do nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(getattr(func, "__self__", None), "__name__", "")  # of a property
        if name == "is_meta":
            return False
        if name == "device" and args[0].is_meta:
            return torch.device("cpu")
        return super().__torch_function__(func, types, args, kwargs)


@contextlib.contextmanager
def _truncated_normals(recorder: Recorder) -> Iterator[None]:
    """Record `nn.init.trunc_normal_` whole: it draws again until every value lies within the bounds."""
    init: Any = nn.init
    original = init._no_grad_trunc_normal_

    def draw(tensor: Any, mean: float, std: float, a: float, b: float, generator: Any = None) -> Any:
        home = recorder.border.at_home(tensor)
        if not recorder.on_meta:
            with _disable_current_modes():
                original(tensor, mean, std, a, b, generator)
        recorder.writer.draw(home, "init::truncated_normal", mean=mean, std=std, a=a, b=b)
        return tensor

    init._no_grad_trunc_normal_ = draw
    try:
        yield
    finally:
        init._no_grad_trunc_normal_ = original


class ForeignDraws:
    """Finds constants that came in after Python's or NumPy's generator had moved: they are draws, not constants."""

    def __init__(self) -> None:
        self.found: dict[int, str] = {}  # value → why it is no constant
        self._states = self._now()

    @contextlib.contextmanager
    def watch(self, recorder: Recorder) -> Iterator[None]:
        """Look at the generators whenever a tensor comes in from outside."""
        border: Any = recorder.border
        original = border._enter

        def enter(tensor: torch.Tensor) -> torch.Tensor:
            home: torch.Tensor = original(tensor)
            for library, state in self._now().items():
                if state != self._states[library]:
                    place = recorder.writer.scope.line()
                    value = recorder.writer.graph.values[recorder.writer.read(home)]
                    self.found[value.id] = f"drawn by {library}'s own generator ({place})"
                    value.known = None
                    recorder.writer.known.doubt(home)
            self._states = self._now()
            return home

        border._enter = enter
        self._states = self._now()
        yield

    def _now(self) -> dict[str, Any]:
        numpy = sys.modules.get("numpy")
        array = None if numpy is None else numpy.random.get_state()
        return {"random": hash(random.getstate()), "numpy": None if array is None else (array[1].tobytes(), *array[2:])}


# Afterwards


@dataclass(frozen=True, slots=True)
class _Held:
    """One parameter or buffer of the finished model."""

    name: str
    tensor: torch.Tensor
    parameter: bool
    value: int


def _origins(model: nn.Module, recorder: Recorder, unsure: dict[int, str]) -> dict[str, Origin]:
    reader = Reader(recorder.writer.graph, unsure)
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
    nodes = [reader.graph.producer(write.value) for write in recorder.writer.tape.writes(held.tensor)]
    history = tuple(f"{node.op} at {node.line}" for node in nodes if node is not None)
    return Origin(held.name, shape, held.tensor.dtype, held.parameter, parts, history, copy_of)


def _parts(content: Content, shape: tuple[int, ...]) -> tuple[Part, ...]:
    """Return what a tensor holds, box by box; one part where all boxes together follow one law."""
    if not isinstance(content, Mixed):
        return (_part(content, shape),)
    boxed = [replace(_part(inner, tuple(s.stop - s.start for s in box)), where=box) for box, inner in content.boxes]
    if not covers([box for box, _ in content.boxes], shape):
        return (_part(content.base, shape), *boxed)
    law = boxed[0].law
    alike = isinstance(law, (Normal, Uniform, TruncatedNormal, Constant)) and all(part.law == law for part in boxed)
    return (Part(law=law),) if alike else tuple(boxed)


def _part(content: Content, shape: tuple[int, ...]) -> Part:
    content = settled(content)
    if (law := law_of(content, shape)) is not None:
        return Part(law=law)
    if isinstance(content, Numbers):
        return Part(values=content.tensor)
    reason = content.reason if isinstance(content, Unread) else f"{type(content).__name__.lower()} contents have no law"
    return Part(reason=reason)


def _draw(graph: Graph, value: int) -> int | None:
    """Return the random node whose numbers a value holds unchanged, or None."""
    node = graph.producer(value)
    while node is not None and not node.random:
        place = {"copy": "src", "alias_update": "new", "clone": "self", "detach": "self", "view": "self"}.get(node.op)
        node = None if place is None else graph.producer(node.arguments[place].id)
    return None if node is None else node.id


def _settle(model: nn.Module, recorder: Recorder) -> None:
    """Give buffers and other tensors that follow from constants their numbers; parameters stay on meta."""
    real: dict[int, torch.Tensor] = {}

    def numbers(tensor: torch.Tensor) -> torch.Tensor:
        shadow = recorder.writer.known.get(tensor)
        if isinstance(tensor, nn.Parameter) or shadow is None or not shadow.certain:
            return tensor
        return real.setdefault(id(tensor), shadow.tensor.detach().clone())

    for module in model.modules():
        for name, tensor in module._parameters.items():
            if tensor is not None and not tensor.is_meta:
                module._parameters[name] = real.setdefault(id(tensor), _hollow(tensor))  # type: ignore[assignment]
        module._buffers.update({n: None if b is None else numbers(b) for n, b in module._buffers.items()})
        own = {n: thing for n, thing in vars(module).items() if n not in ("_parameters", "_buffers", "_modules")}
        vars(module).update({name: replace_tensors(numbers, thing) for name, thing in own.items()})


def _hollow(parameter: nn.Parameter) -> nn.Parameter:
    empty = torch.empty_strided(parameter.shape, parameter.stride(), dtype=parameter.dtype, device="meta")
    return nn.Parameter(empty, requires_grad=parameter.requires_grad)
