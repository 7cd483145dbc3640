"""What surrounds a constructor while it is recorded: the line that runs, tensors that look real, draws of other libraries."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import sysconfig
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
        or file.endswith("typing_extensions.py")  # the wrapper of deprecated functions
    )


@lru_cache(maxsize=4096)
def short_path(file: str) -> str:
    """Return a file as its package names it, or from the current folder on: a plan is to read the same on every machine."""
    for home in sorted((home for home in (*sys.path, str(Path.cwd())) if len(home) > 1), key=len, reverse=True):
        if file.startswith(home.rstrip("/\\") + os.sep):
            return Path(file).relative_to(home).as_posix()
    return file


def places_of(error: BaseException) -> tuple[str, ...]:
    """Return the lines that an error came through, outermost first, without torch's, ours and the standard library's."""
    trace, places = error.__traceback__, []
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not _is_plumbing(file) and not (file.startswith(STANDARD) and "-packages" not in file):
            places.append(f"{short_path(file)}:{trace.tb_lineno}")
        trace = trace.tb_next
    return tuple(places)


def line_of(error: BaseException) -> str:
    """Return the innermost of these lines, or nothing."""
    return next(reversed(places_of(error)), "")


STANDARD = sysconfig.get_paths()["stdlib"]


def own_generators(recorder: Recorder) -> tuple[str, ...]:
    """Return a note for each line that draws from a generator of its own: the law is read, its numbers are not."""
    return tuple(
        f"{line} draws from a generator of its own: its law counts. For its very numbers, give materialize_ values={{…}}"
        for line in dict.fromkeys(recorder.own_generators)
    )


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
        if isinstance(generator, torch.Generator):
            recorder.own_generators.append(recorder.writer.scope.line())
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
        self._drawn: list[tuple[torch.Tensor, str]] = []  # numbers of them, to know them again after a cast
        self._generators: list[Any] = []  # that numpy.random.default_rng made meanwhile
        self._start = self._states = self._now()

    @contextlib.contextmanager
    def watch(self, recorder: Recorder) -> Iterator[None]:
        """Look at the generators whenever a tensor comes in from outside."""
        border: Any = recorder.border
        original = border._enter

        def enter(tensor: torch.Tensor) -> torch.Tensor:
            home: torch.Tensor = original(tensor)
            numbers = tensor.detach().flatten().float() if tensor.is_floating_point() and not tensor.is_meta else None
            moved = [library for library, state in self._now().items() if state != self._states[library]]
            reasons = [f"drawn by {library}'s own generator ({recorder.writer.scope.line()})" for library in moved]
            reasons += [why for drawn, why in self._drawn if numbers is not None and torch.equal(drawn, numbers)]
            if reasons:
                value = recorder.writer.graph.values[recorder.writer.read(home)]
                self.found[value.id] = reasons[-1]
                value.known = None
                recorder.writer.known.doubt(home)
                self._drawn += [(numbers, reasons[-1])] if numbers is not None else []
            self._states = self._now()
            return home

        border._enter = enter
        self._start = self._states = self._now()
        with self._new_generators():
            yield
        border._enter = original

    def moved(self) -> tuple[str, ...]:
        """Return a note for each generator that moved: plain numbers from it cannot be told from constants."""
        libraries = [library for library, state in self._now().items() if state != self._start[library] and state]
        return tuple(
            f"the constructor uses {library}'s own generator: a plain number that it drew (and no tensor) is as in this one build"
            for library in libraries
        )

    @contextlib.contextmanager
    def _new_generators(self) -> Iterator[None]:
        """Keep hold of the generators that `numpy.random.default_rng` makes: their state says whether they were used."""
        numpy = sys.modules.get("numpy")
        if numpy is None:
            yield
            return
        original: Any = numpy.random.default_rng

        def default_rng(*seed: Any) -> Any:
            made = original(*seed)
            self._generators.append(made)
            self._states = {**self._states, "numpy's default_rng": self._now()["numpy's default_rng"]}
            return made

        numpy.random.default_rng = default_rng
        try:
            yield
        finally:
            numpy.random.default_rng = original

    def _now(self) -> dict[str, Any]:
        numpy = sys.modules.get("numpy")
        array = None if numpy is None else numpy.random.get_state()
        states = {
            "random": hash(random.getstate()),
            "numpy": None if array is None else (array[1].tobytes(), *array[2:]),
        }
        own = tuple(repr(generator.bit_generator.state) for generator in self._generators)
        return states | {"numpy's default_rng": own}
