"""Build a model on meta and record the init that its own constructor meant."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import nn

from stepzero.errors import ModelError
from stepzero.network._calm import below_autograd, clear_caches_holding_meta, eager_switches, random_state_kept
from stepzero.network._constructing import AsOnCpu, ForeignDraws, LineScope, own_generators, truncated_normals
from stepzero.network._factory_errors import is_final, raised, refused, returned
from stepzero.network._graph import Graph
from stepzero.network._lost import lost_draws
from stepzero.network._names import buffer_slots, parameter_slots
from stepzero.network._origin import Recording
from stepzero.network._origins import origins
from stepzero.network._recorder import Recorder
from stepzero.network._walk import replace_tensors

BUDGET = (
    4 * 2**30
)  # bytes of constants that a constructor computes, temporaries counted in; buffers get theirs from here

_recordings: weakref.WeakKeyDictionary[nn.Module, Recording] = weakref.WeakKeyDictionary()


def build(factory: Callable[[], nn.Module]) -> nn.Module:
    """Return the model that `factory` makes, with its parameters on meta and its own init recorded.

    Buffers, index tables and whatever else the constructor computes from constants have their true values. Nothing is
    drawn; the global random states of torch, Python and NumPy stay as they are. `recording(model)` tells what was meant.

    Args:
        factory: Makes the model: a function without arguments, or a class.

    Raises:
        ModelError: if the factory raises (it downloads, asks for a GPU …), or returns no module; the message names the line.

    Examples:
        >>> model = build(lambda: nn.Linear(3, 4))
        >>> model.weight.device.type, recording(model)["weight"].law
        ('meta', Uniform(low=-0.57735, high=0.57735))
    """
    if (wrong := refused(factory)) is not None:
        raise wrong
    try:
        model, recorded = _build(factory, on_meta=True)
    except (Exception, SystemExit) as error:  # it reads random numbers, or it is wrong: then the real build says so
        if is_final(error):
            raise raised(error) from error
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
        raise raised(error) from error


def _build(factory: Callable[[], nn.Module], *, on_meta: bool) -> tuple[nn.Module, Recording]:
    graph = Graph(rung="meta" if on_meta else "real")
    recorder = Recorder(graph, LineScope(), on_meta=on_meta, budget=BUDGET)
    foreign = ForeignDraws()
    made: list[weakref.ref[torch.Tensor]] = []
    with (
        eager_switches(),
        random_state_kept(),
        below_autograd(True),
        truncated_normals(recorder),
        foreign.watch(recorder),
    ):
        try:
            with AsOnCpu(recorder.writer.known), recorder:
                model = factory()
            if not isinstance(model, nn.Module):
                raise returned(model)
            if on_meta and recorder.failed:  # and was caught: a real run may go another way
                raise ModelError(f"{recorder.failed} cannot run on meta")
            known = MappingProxyType(origins(model, recorder, foreign.found))
            assumed = (*graph.assumed, *own_generators(recorder), *foreign.moved())
            recorded = Recording(known, graph.rung, assumed, lost_draws(graph, _held(model, recorder)))
            _settle(model, recorder)
        finally:
            made += recorder.release()
            clear_caches_holding_meta(made)
    return model, recorded


def _held(model: nn.Module, recorder: Recorder) -> list[int]:
    """Return the values that parameters and buffers hold."""
    slots = (*parameter_slots(model).values(), *buffer_slots(model).values())
    return [recorder.writer.read(recorder.border.at_home(slot.tensor)) for slot in slots]


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
