"""A function of unknown making as an Elementwise: what it is called with, whether it may be integrated, and where it bends."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from stepzero.errors import ActivationError

from ._elementwise import Array, Elementwise, Function
from ._gaussian import NODES, REACH, nodes
from ._legendre import interpolation, rule

_SAMPLES = np.linspace(-REACH, REACH, 257) + 1e-3  # no sample on a number that a person would choose as a kink
_NOT_REAL = "it returns"
FINEST = 1e-12  # a bend that is still there at this width is a kink
_MOST_PANELS = 4000


def read_callable(function: Any) -> Elementwise:
    """Return a NumPy or torch callable as a pointwise function, with the places where it bends.

    Raises:
        ActivationError: if it cannot be called, or is not elementwise, not finite, not real, or random.
    """
    name = _name(function)
    if not callable(function):
        raise ActivationError(f"{function!r} is no activation. Give a name, a module or a function of arrays.")
    with _undisturbed():
        value = _checked(_adapted(function, name), name)
        require_moments(value, name)
        cuts, jumps = find_cuts(value)
    return Elementwise(name, value, None, cuts, jumps)


def find_cuts(value: Function) -> tuple[tuple[float, ...], bool]:
    """Return where panels have to be cut for a function, and whether it jumps.

    On each panel the interpolant through the Gauss points is held against the function on other points; where they
    differ the panel is halved, until the interpolant is right or the panel is as narrow as a kink.
    """
    scale = float(np.max(np.abs(value(np.linspace(-4, 4, 41) + 1e-3)))) or 1.0
    tolerance = _resolution(value) * 2e2
    left, right = np.arange(-REACH, REACH, 2.0), np.arange(-REACH + 2, REACH + 1, 2.0)
    cuts: list[float] = []
    jumps, seen = False, 0
    while left.size:
        seen += left.size
        if seen > _MOST_PANELS:
            raise ActivationError(
                "the function bends in too many places to be integrated (noise, or a very fast oscillation)."
            )
        bent, step = _misfit(value, left, right, scale, tolerance)
        left, right, step = left[bent], right[bent], step[bent]
        middle = (left + right) / 2
        cuts += middle.tolist()
        fine = right - left < FINEST
        jumps = jumps or bool(np.any(step[fine] > 1e-4 * scale))
        left, middle, right = left[~fine], middle[~fine], right[~fine]
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    return tuple(sorted(cuts)), jumps


def require_moments(value: Function, name: str) -> None:
    """Raise ActivationError for a function that grows so fast that its moments do not exist."""
    z, weight = nodes(0.0, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        mass = weight * value(z) ** 4
    total, far = float(np.sum(mass)), float(np.sum(mass[np.abs(z) > 12]))
    if not np.isfinite(total) or far > 1e-6 * total:
        raise ActivationError(f"{name} grows too fast: its moments under a normal preactivation are not finite.")


def _misfit(value: Function, left: Array, right: Array, scale: float, tolerance: float) -> tuple[Any, Array]:
    """Which panels the interpolant does not fit, and by how much the function changes across each."""
    half = (right - left)[:, None] / 2
    known = value(left[:, None] + half * (1 + _FIT_AT))
    tested = value(left[:, None] + half * (1 + _TEST_AT))
    size = np.maximum(np.abs(known).max(axis=1), scale)
    wrong = np.abs(known @ _FIT_TO_TEST.T - tested).max(axis=1)
    return wrong > tolerance * size, np.abs(known[:, -1] - known[:, 0])


def _resolution(value: Function) -> float:
    """Relative spacing of the numbers that the function puts out: a float32 function cannot be held to 1e-14."""
    sample = value(_SAMPLES[np.abs(_SAMPLES) < 4])
    with np.errstate(over="ignore"):
        short = np.any(sample) and np.all(sample == sample.astype(np.float32))
    return float(np.finfo(np.float32 if short else np.float64).eps)


def _checked(value: Function, name: str) -> Function:
    """Return the function if it may be integrated, or raise with the reason."""
    x = _SAMPLES
    first, again = value(x), value(x)
    if first.shape != x.shape:
        raise ActivationError(f"{name} is not elementwise: {x.shape} went in, {first.shape} came out.")
    if not np.all(np.isfinite(first)):
        at = x[~np.isfinite(first)][0]
        raise ActivationError(
            f"{name} is not finite: it gives {value(np.array([at]))[0]} at x = {at:.3g}. Clamp or shift it."
        )
    if not np.array_equal(first, again):
        raise ActivationError(
            f"{name} is random: two calls on the same input differ. Give its expectation, or put it into eval mode."
        )
    order = np.arange(x.size)[::-1]
    for part in (order, order[:100]):
        if not np.allclose(value(x[part]), first[part], rtol=1e-5, atol=1e-7):
            raise ActivationError(
                f"{name} is not elementwise: an output changes when other elements do. `plan` follows such ops."
            )
    return value


def _adapted(function: Callable[..., Any], name: str) -> Function:
    """Return the callable as a function of float64 arrays, whichever framework it belongs to."""
    attempts = [_through_numpy, _through_torch] if "torch" in sys.modules else [_through_numpy]
    if _is_module(function):
        function = copy.deepcopy(function)  # its buffers must not move when it is called
        attempts = [_through_torch]
    problems: list[str] = []
    for adapted in [attempt(function) for attempt in attempts]:
        problems.append(_problem(adapted))
        if not problems[-1]:
            return adapted
    said = next((problem for problem in problems if problem.startswith(_NOT_REAL)), problems[-1])
    raise ActivationError(f"{name} cannot be evaluated on an array ({said}).")


def _problem(function: Function) -> str:
    """Return what a trial call raises, in a line; empty if it works."""
    try:
        function(_SAMPLES[:4])
    except ActivationError as error:
        return str(error)
    except Exception as error:  # a user's function may raise anything
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def _through_numpy(function: Callable[..., Any]) -> Function:
    def value(x: Array) -> Array:
        with np.errstate(all="ignore"), _double_precision():
            return _real(function(x.copy()))

    return value


def _double_precision() -> AbstractContextManager[Any]:
    """JAX rounds what it is given to float32 unless told otherwise; that would cost half of the digits."""
    switch = getattr(sys.modules.get("jax"), "enable_x64", None)
    return nullcontext() if switch is None else switch(True)


def _through_torch(function: Callable[..., Any]) -> Function:
    torch = sys.modules["torch"]  # whoever hands over a torch callable has imported it

    def value(x: Array) -> Array:
        with torch.no_grad():
            out = function(torch.from_numpy(x.copy()))
        return _real(out.detach().cpu().double().numpy() if not out.is_complex() else out.numpy())

    return value


def _real(out: Any) -> Array:
    array = np.asarray(out)
    if array.dtype.kind not in "fiub":
        raise ActivationError(f"{_NOT_REAL} {array.dtype}, not real numbers")
    return array.astype(np.float64)


def _is_module(function: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(function, torch.nn.Module)


def _name(function: Any) -> str:
    return getattr(function, "__name__", None) or type(function).__name__


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put every global random state back: a random function is refused, and must leave no trace."""
    random = sys.modules.get("random")  # what is not loaded cannot be disturbed
    plain, legacy = random.getstate() if random is not None else None, np.random.get_state()  # noqa: NPY002  the global state is what is saved
    torch = sys.modules.get("torch")
    state = torch.get_rng_state() if torch is not None else None
    try:
        yield
    finally:
        if random is not None:
            random.setstate(plain)
        np.random.set_state(legacy)  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(state)


_FIT_AT = rule(NODES)[0]
_TEST_AT = np.concatenate([[-1.0], rule(24)[0], [1.0]])  # a bend may hide beside a border
_FIT_TO_TEST = interpolation(_FIT_AT, _TEST_AT)
