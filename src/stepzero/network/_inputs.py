"""Example inputs as one value, whichever way the caller wrote them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from stepzero.errors import InputError
from stepzero.network._walk import replace_tensors

HOW = (
    "Pass a tensor, a tuple of tensors, a shape such as (1, 3, 224, 224), a list of shapes, "
    'a string such as "1x3x224x224" or "ids=1x128:int64", or {"args": ..., "kwargs": ...}.'
)
SPEC = re.compile(r"^(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>\d+(?:x\d+)*)(?::(?P<dtype>[a-z]\w*))?$")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input of which only shape and type are known."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if any(size < 1 for size in self.shape):
            raise InputError(f"an input of shape {self.shape} is empty: every size must be at least 1. {HOW}")


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """One call of a model: tensors, or `TensorSpec`s in their place, and whatever else `forward` takes."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Any, model: nn.Module | None = None) -> ModelInputs:
        """Return the call that `inputs` describes.

        Args:
            inputs: A tensor, a tuple or list of tensors and shapes, one shape, a text form
                (`"1x3x224x224"`, `"ids=1x128:int64"`) or a list of them, `{"args": ..., "kwargs": ...}`,
                or a mapping from argument names to tensors (or, for all of them, shapes and texts).
            model: What is called: a shape without a type is of its floating type, without a model of float32.

        Raises:
            InputError: if it is none of these.
        """
        if isinstance(inputs, cls):
            return inputs
        return _read(inputs, _floating_type(model))

    def changed(self, change: Any) -> ModelInputs:
        """Return the same call with `change` applied to every tensor and `TensorSpec`."""
        return ModelInputs(_change(change, self.args), _change(change, self.kwargs))

    def named(self, forward: Any) -> dict[str, Any]:
        """Return the tensors and `TensorSpec`s by the names of the arguments that they are passed for."""
        found: dict[str, Any] = {}
        for name, value in _bind(forward, self.args, self.kwargs).items():
            _collect(name, value, found)
        return found

    def describe(self, forward: Any) -> str:
        """Return the call in words, for messages: `x: float32 (1, 3, 224, 224)`."""
        named = self.named(forward).items()
        return ", ".join(f"{name}: {str(t.dtype)[6:]} {tuple(t.shape)}" for name, t in named) or "no tensor"


def parse_spec(text: str, floating: torch.dtype = torch.float32) -> tuple[str | None, TensorSpec]:
    """Return name and spec of a text form such as `"1x3x224x224"` or `"ids=1x128:int64"`; a text without a type is `floating`.

    Raises:
        InputError: if the text has another form, or its type is not one of torch's.

    Examples:
        >>> parse_spec("ids=1x128:int64")
        ('ids', TensorSpec(shape=(1, 128), dtype=torch.int64))
    """
    match = SPEC.match(text.strip())
    if match is None:
        raise InputError(f'input {text!r} is not of the form "1x3x224x224" or "name=1x128:int64".')
    dtype = getattr(torch, match["dtype"], None) if match["dtype"] else floating
    if not isinstance(dtype, torch.dtype):
        raise InputError(f"input {text!r}: {match['dtype']!r} is not a tensor type. Try float32, int64 or bool.")
    return match["name"], TensorSpec(tuple(map(int, match["shape"].split("x"))), dtype)


def real_inputs(inputs: Any, *, seed: int = 0) -> ModelInputs:
    """Return the call with real tensors: N(0, 1) for floating types, ones for integers and booleans.

    Tensors that the caller gave pass as they are. The global random state is not used.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(thing: Any) -> torch.Tensor:
        if isinstance(thing, torch.Tensor) and thing.device.type != "meta":
            return thing
        if thing.dtype.is_floating_point or thing.dtype.is_complex:
            return torch.randn(thing.shape, dtype=thing.dtype, generator=generator)
        return torch.ones(thing.shape, dtype=thing.dtype)

    return ModelInputs.of(inputs).changed(draw)


def _read(inputs: Any, floating: torch.dtype) -> ModelInputs:
    if isinstance(inputs, Mapping):
        return _from_mapping(inputs, floating)
    if isinstance(inputs, (torch.Tensor, TensorSpec)) or _is_shape(inputs):
        return ModelInputs((_positional(inputs, floating),))
    if isinstance(inputs, str):
        return _from_text([inputs], floating)
    if isinstance(inputs, (tuple, list)):
        texts = [entry for entry in inputs if isinstance(entry, str)]
        if texts and len(texts) == len(inputs):
            return _from_text(texts, floating)
        return ModelInputs(tuple(_positional(entry, floating) for entry in inputs))
    raise InputError(f"inputs of type {type(inputs).__name__} do not describe a call of the model. {HOW}")


def _from_mapping(inputs: Mapping[str, Any], floating: torch.dtype) -> ModelInputs:
    if not set(inputs) <= {"args", "kwargs"}:
        if not all(isinstance(name, str) for name in inputs):
            raise InputError(f"inputs with keys {list(inputs)}: argument names are strings. {HOW}")
        return ModelInputs(kwargs=_named(inputs, floating))
    args, kwargs = inputs.get("args", ()), inputs.get("kwargs", {})
    if not isinstance(kwargs, Mapping):
        raise InputError(f'inputs["kwargs"] is a {type(kwargs).__name__}, not a mapping from argument names. {HOW}')
    positional = _read(args, floating)  # a text among them may name its argument
    return ModelInputs(positional.args, positional.kwargs | dict(kwargs))


def _named(inputs: Mapping[str, Any], floating: torch.dtype) -> dict[str, Any]:
    """Return arguments by name. Where none holds a tensor, shapes and texts stand for tensors; else they are what they are."""
    if any(_holds_tensor(value) for value in inputs.values()):
        return dict(inputs)
    return {
        name: _positional(value, floating)
        if _is_shape(value) or (isinstance(value, str) and SPEC.match(value))
        else value
        for name, value in inputs.items()
    }


def _holds_tensor(value: Any) -> bool:
    found: dict[str, Any] = {}
    _collect("", value, found)
    return bool(found)


def _from_text(texts: Sequence[str], floating: torch.dtype) -> ModelInputs:
    args, kwargs = [], {}
    for name, spec in (parse_spec(text, floating) for text in texts):
        if name is None:
            args.append(spec)
        elif name in kwargs:
            raise InputError(f"input {name!r} is given twice.")
        else:
            kwargs[name] = spec
    return ModelInputs(tuple(args), kwargs)


def _floating_type(model: nn.Module | None) -> torch.dtype:
    """Return the type of the first real floating parameter that arithmetic knows; float32 where there is none."""
    types = (p.dtype for p in model.parameters()) if isinstance(model, nn.Module) else iter(())
    return next((t for t in types if t.is_floating_point and t.itemsize > 1), torch.float32)


def _is_shape(thing: Any) -> bool:
    if not isinstance(thing, (tuple, list)) or not thing:
        return False
    return all(isinstance(size, int) and not isinstance(size, bool) for size in thing)


def _positional(entry: Any, floating: torch.dtype) -> Any:
    """Return an argument as the model gets it; a shape among positional arguments stands for a float tensor."""
    if _is_shape(entry):
        return TensorSpec(tuple(entry), floating)
    if isinstance(entry, str):
        name, spec = parse_spec(entry, floating)
        if name is not None:
            raise InputError(f"input {entry!r} has a name and stands among positional arguments. {HOW}")
        return spec
    return entry


def _change(change: Any, thing: Any) -> Any:
    if isinstance(thing, TensorSpec):
        return change(thing)
    if isinstance(thing, (tuple, list)) and not hasattr(thing, "_fields"):
        return type(thing)(_change(change, part) for part in thing)
    if isinstance(thing, dict):
        return {key: _change(change, part) for key, part in thing.items()}
    return replace_tensors(change, thing)


def _bind(forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments by name as far as the signature tells, else by position."""
    try:
        bound = inspect.signature(forward).bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return {str(place): value for place, value in enumerate(args)} | kwargs
    named = dict(bound)
    for parameter in inspect.signature(forward).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= named.pop(parameter.name, {})
    return named


def _collect(name: str, value: Any, found: dict[str, Any]) -> None:
    if isinstance(value, (torch.Tensor, TensorSpec)):
        found[name] = value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            _collect(f"{name}.{key}", part, found)
    elif isinstance(value, (tuple, list)):
        for place, part in enumerate(value):
            _collect(f"{name}.{place}", part, found)
