"""What surrounds a constructor while it is recorded: the line that runs, tensors that look real, draws of other libraries."""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from stepzero.network._data import DataKept
from stepzero.network._recorder import Recorder
from stepzero.network._scope import Scope


class LineScope(Scope):
    """Knows the line of code instead of the module."""

    def line(self) -> str:
        """Return the innermost line that is neither torch's nor ours."""
        frame = sys._getframe(1)
        while frame is not None and _is_plumbing(frame.f_code.co_filename):
            frame = frame.f_back  # type: ignore[assignment]
        return f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}" if frame is not None else ""


def _is_plumbing(file: str) -> bool:
    return (
        "/torch/" in file.replace("\\", "/")
        or "/stepzero/network/" in file.replace("\\", "/")
        or file.startswith("<frozen")
    )


@lru_cache(maxsize=4096)
def short_path(file: str) -> str:
    """Return a file as its package names it, or from the current folder on: a plan is to read the same on every machine."""
    for home in sorted((home for home in (*sys.path, str(Path.cwd())) if len(home) > 1), key=len, reverse=True):
        if file.startswith(home.rstrip("/\\") + os.sep):
            return Path(file).relative_to(home).as_posix()
    return file


def line_of(error: BaseException) -> str:
    trace, place = error.__traceback__, ""
    while trace is not None:
        if not _is_plumbing(trace.tb_frame.f_code.co_filename):
            place = f"{short_path(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
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
def truncated_normals(recorder: Recorder) -> Iterator[None]:
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
