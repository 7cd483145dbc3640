"""What capture refuses before it runs anything: one message each, with the place and the way out."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from stepzero.errors import InputError, ModelError
from stepzero.network._inputs import ModelInputs, TensorSpec

META = torch.device("meta")
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_model(model: Any) -> None:
    """Raise ModelError unless `model` is a module whose tensors all have shapes."""
    if not isinstance(model, nn.Module):
        hint = " Call it first: pass the module that it returns." if callable(model) else ""
        raise ModelError(f"the model is a {type(model).__name__}, not a torch.nn.Module.{hint}")
    for path, module in model.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None and is_lazy(tensor):
                raise ModelError(
                    f"{name} of {path or 'the model'} ({type(module).__name__}) has no shape yet: the module is lazy. "
                    "Run model(x) once with a real input, or give the sizes in the constructor."
                )


def require_parameters(model: nn.Module) -> None:
    """Raise ModelError if there is nothing to initialise."""
    if next(model.parameters(), None) is None:
        raise ModelError(
            f"{type(model).__name__} has no parameters: there is nothing to initialise. "
            "Tensors kept as plain attributes are not seen; make them nn.Parameter."
        )


def check_call(model: nn.Module, call: ModelInputs) -> None:
    """Raise InputError if `forward` does not take these arguments, or if they are on another device."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return  # a compiled forward has no signature: running it will tell
    try:
        signature.bind(*call.args, **call.kwargs)
    except TypeError as error:
        name = type(model).__name__
        raise InputError(
            f"{name}.forward{_short(signature)} does not take these inputs: {error}. "
            f"In order or by name, they look like {_example(signature)}."
        ) from None
    _check_devices(model, call)


def _check_devices(model: nn.Module, call: ModelInputs) -> None:
    homes = _homes(model)
    for name, tensor in call.named(model.forward).items():
        if isinstance(tensor, TensorSpec) or tensor.dim() == 0 or tensor.device == META or not homes:
            continue
        if tensor.device not in homes:
            homes_text = ", ".join(sorted(map(str, homes)))
            raise InputError(
                f"input {name} is on {tensor.device}, the model on {homes_text}. "
                f"Move it with .to({homes_text.split(', ')[0]!r}), or pass its shape {tuple(tensor.shape)} instead."
            )


def _homes(model: nn.Module) -> set[torch.device]:
    return {tensor.device for tensor in (*model.parameters(), *model.buffers())} - {META}


def _example(signature: inspect.Signature) -> str:
    """Return the text forms of inputs for the arguments that have no default; the shapes are a reader's to fill in."""
    needed = [p.name for p in signature.parameters.values() if p.default is p.empty and p.kind not in VARIADIC]
    return ", ".join(f'"{name}=1x…"' for name in needed or list(signature.parameters)[:1])


def _short(signature: inspect.Signature) -> str:
    return "(" + ", ".join(str(p).split(":")[0].split("=")[0].strip() for p in signature.parameters.values()) + ")"
