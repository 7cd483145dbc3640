"""Where in the model an op runs: module path, number of the call, mode, and custom autograd regions."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from stepzero.network._names import canonical_name


@dataclass(frozen=True, slots=True)
class Frame:
    """One call of one module."""

    path: str = ""
    call: int = 0
    module: nn.Module | None = None

    @property
    def training(self) -> bool:
        return self.module is not None and self.module.training


def canonical_path(path: str) -> str:
    """Return a module's path without the segments of wrappers.

    Examples:
        >>> canonical_path("module._orig_mod.layers.0"), canonical_path("module")
        ('layers.0', '')
    """
    return canonical_name(f"{path}.x").rpartition(".")[0]


@dataclass(slots=True)
class Scope:
    """The stack of module calls, kept up to date by hooks on the twin."""

    stack: list[Frame] = field(default_factory=lambda: [Frame()])
    region: str = ""  # the custom autograd.Function that is running
    region_grad: bool = True  # grad mode where it was called; inside, torch switches it off
    _calls: Counter[str] = field(default_factory=Counter)

    @property
    def here(self) -> Frame:
        return self.stack[-1]

    def line(self) -> str:
        """Return the line of the model's code that runs, where lines are recorded."""
        return ""

    @property
    def grad(self) -> bool:
        return self.region_grad if self.region else torch.is_grad_enabled()

    def watch(self, model: nn.Module) -> None:
        """Hook every module of a twin; the hooks live and die with it."""
        for name, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks: its ops belong to the module that calls it
            path = canonical_path(name)
            module.register_forward_pre_hook(self._enter(name, path), prepend=True)
            module.register_forward_hook(self._leave(path))

    def _enter(self, name: str, path: str) -> Any:
        def enter(module: nn.Module, args: Any) -> None:
            if torch.compiler.is_compiling():  # torch.cond traces its branches before it runs them
                return
            self.stack.append(Frame(path, self._calls[name], module))
            self._calls[name] += 1

        return enter

    def _leave(self, path: str) -> Any:
        def leave(module: nn.Module, args: Any, output: Any) -> None:
            if torch.compiler.is_compiling():
                return
            # A model may catch an exception of a submodule, whose frame is then still there.
            while len(self.stack) > 1 and self.stack.pop().path != path:
                pass

        return leave

    @contextlib.contextmanager
    def autograd_functions(self) -> Iterator[None]:
        """Mark the ops inside custom `autograd.Function`s while this lasts."""
        original = torch.autograd.Function.__dict__["apply"]

        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            if self.region:
                return original.__func__(cls, *args, **kwargs)
            count = f"Function:{cls.__name__}"
            self._calls[count] += 1
            self.region_grad = torch.is_grad_enabled()
            self.region = f"{cls.__name__}#{self._calls[count]}"
            try:
                return original.__func__(cls, *args, **kwargs)
            finally:
                self.region = ""

        torch.autograd.Function.apply = classmethod(apply)  # type: ignore[assignment,method-assign]
        try:
            yield
        finally:
            torch.autograd.Function.apply = original  # type: ignore[method-assign]
