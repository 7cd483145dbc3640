"""Build a model whose parameters take no memory, while everything else that its constructor computes stays real."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakTensorKeyDictionary


@contextlib.contextmanager
def hollow_parameters() -> Iterator[None]:
    """Move every parameter to meta at the moment when a module takes it in.

    Buffers and whatever constructors read (`torch.linspace(...).tolist()`, index tables) keep their numbers, which
    `torch.device("meta")` would lose. `torch.empty` memory that nobody has written to is never handed out by the
    system, so a layer costs none even for the moment before it is moved.
    """
    original = nn.Module.register_parameter
    moved = WeakTensorKeyDictionary()

    def register(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        original(self, name, param if param is None or param.is_meta or is_lazy(param) else _on_meta(param, moved))

    nn.Module.register_parameter = register  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]


def _on_meta(param: nn.Parameter, moved: Any) -> nn.Parameter:
    """Return the meta parameter that stands for `param` everywhere, so that ties stay ties."""
    if param not in moved:
        empty = torch.empty_strided(param.shape, param.stride(), dtype=param.dtype, device="meta")
        hollow = param.__class__(empty, requires_grad=param.requires_grad)
        vars(hollow).update(vars(param))
        moved[param] = hollow
    found: nn.Parameter = moved[param]
    return found
