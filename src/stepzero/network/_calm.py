"""Leave the process as it was: random states, grad mode, switches of torch, caches that kept tensors on meta."""

from __future__ import annotations

import contextlib
import functools
import gc
import random
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch

_ONE_AT_A_TIME = threading.RLock()
P = ParamSpec("P")
R = TypeVar("R")


def unmoved(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function out of reach of the caller's `no_grad`, `inference_mode` and `with torch.device("meta")`."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        hollow = torch.get_default_device().type == "meta"
        device = torch.device("cpu") if hollow else contextlib.nullcontext()  # a device's context slows every op
        with torch.inference_mode(False), torch.enable_grad(), device:
            return function(*args, **kwargs)

    return run


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the global random states of torch, Python and NumPy."""
    python, cpu = random.getstate(), torch.get_rng_state()
    numpy = sys.modules.get("numpy")
    array = None if numpy is None else numpy.random.get_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        torch.set_rng_state(cpu)
        if numpy is not None:
            numpy.random.set_state(array)
        if devices:
            torch.cuda.set_rng_state_all(devices)


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's cyclic garbage collector: it would look through all that the process holds, again and again."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@contextlib.contextmanager
def eager_switches() -> Iterator[None]:
    """Switch off what hides ops from a dispatch mode or refuses a single example, and back on."""
    import torch.fx.experimental._config as fx_config

    with (
        _ONE_AT_A_TIME,  # the switches are the whole process's
        _slow_attention(),
        torch.jit.optimized_execution(False),  # type: ignore[attr-defined]  # its profile of this run would outlive it
        _unwarned(),  # a real run shows the model's own
        _uncompiled(),
        _set(torch, "cond", _cond),  # the original compiles its branches first
        _set(torch.nn.functional, "_verify_batch_size", _any_batch_size),
        _set(fx_config, "meta_nonzero_assume_all_nonzero", True),
    ):
        yield


@contextlib.contextmanager
def _slow_attention() -> Iterator[None]:
    """Keep `nn.MultiheadAttention` from its fused path, which hides its ops."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _uncompiled() -> contextlib.AbstractContextManager[Any]:
    """Run compiled submodules eagerly; where the compiler was never imported, there are none."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()


@contextlib.contextmanager
def _set(holder: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)


def _cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], operands: Any = ()) -> Any:
    return true_fn(*operands) if pred else false_fn(*operands)


def _any_batch_size(size: Any) -> None:
    """Accept one value per channel in training: no statistics are computed on meta."""


@contextlib.contextmanager
def below_autograd(wanted: bool) -> Iterator[None]:
    """Keep autograd and autocast out, so that composite ops arrive whole."""
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU).add(torch._C.DispatchKey.AutocastCUDA)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch._C._ExcludeDispatchKeyGuard(autocast))
        if wanted:
            stack.enter_context(torch._C._AutoDispatchBelowAutograd())
        yield


def clear_caches_holding_meta(made: list[weakref.ref[torch.Tensor]]) -> None:
    """Clear `functools.lru_cache`s that now hold tensors on meta: the user's next real forward would meet them.

    Args:
        made: What the ops of a capture made. If all of it is gone, no cache kept any and nothing is searched.
    """
    if not any(tensor() is not None for tensor in made):
        return
    for thing in gc.get_objects():
        if type(thing) is functools._lru_cache_wrapper and thing.cache_info().currsize and _holds_meta(thing, depth=4):
            thing.cache_clear()


def _holds_meta(thing: Any, depth: int) -> bool:
    if isinstance(thing, torch.Tensor):
        return thing.device.type == "meta"
    if depth == 0 or isinstance(thing, (type, str, torch.nn.Module)) or (callable(thing) and depth < 4):
        return False
    return any(_holds_meta(part, depth - 1) for part in gc.get_referents(thing))
