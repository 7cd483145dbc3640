"""From what a user calls an activation (torch's, Keras's or JAX's name, a module, a function) to the functions it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from stepzero.errors import ActivationError

from ._callables import read_callable
from ._elementwise import Elementwise
from ._units import Unit
from ._vocabulary import ACTIVATIONS, ALIASES, MODULES, REFUSED, REFUSED_MODULES


def unit(nonlinearity: Any, param: Any = None) -> Unit:
    """Return the functions that a name, a module or a callable stands for.

    Args:
        nonlinearity: A name in torch's, Keras's or JAX's spelling, an activation module or its class (settings read from
            the module), or a pointwise function of NumPy arrays or torch tensors.
        param: Settings of a named activation: a number, a tuple in the order of torch's arguments, or a dict by our names.

    Raises:
        ActivationError: if the name is unknown, or what it names is not elementwise, not finite or random.
    """
    if isinstance(nonlinearity, str):
        return _named(nonlinearity, param)
    if param is not None:
        raise ActivationError(f"param={param!r} goes with a name only; {_kind(nonlinearity)} brings its own settings.")
    if isinstance(nonlinearity, Unit):
        return nonlinearity
    if isinstance(nonlinearity, Elementwise):
        return _plain(nonlinearity)
    if isinstance(nonlinearity, type):
        return _read_class(nonlinearity)
    return _read_module(nonlinearity) or _plain(read_callable(nonlinearity))


def _named(name: str, param: Any) -> Unit:
    """Look a spelling up and apply its settings."""
    key = _SPELLINGS.get(_normalise(name), "")
    if key in REFUSED:
        raise ActivationError(f"{name!r} has no gain: {REFUSED[key]}")
    if not key:
        raise ActivationError(_unknown(name))
    positional, named = _settings(param)
    try:
        made = ACTIVATIONS[key](*positional, **named)
    except TypeError:
        raise ActivationError(f"{name!r} does not take param={param!r}. Expected: {_signature(key)}.") from None
    return made if isinstance(made, Unit) else _plain(made)


def _read_class(kind: type) -> Unit:
    """Return the unit of an activation class of torch with its default settings."""
    if _is_library(kind) and kind.__name__ in {*MODULES, *REFUSED_MODULES}:
        return _named(kind.__name__, None)
    raise ActivationError(f"{kind.__name__} is a class. Give an instance of it, whose settings can be read.")


def _read_module(module: Any) -> Unit | None:
    """Return the unit of a known activation module, with the settings it holds; None for anything else."""
    if not hasattr(module, "forward"):
        return None
    for kind in type(module).__mro__:
        if kind.__name__ in REFUSED_MODULES:
            raise ActivationError(f"{kind.__name__} has no gain: {REFUSED[REFUSED_MODULES[kind.__name__]]}")
        if kind.__name__ in MODULES and _is_library(kind):
            made = MODULES[kind.__name__](module) if type(module).forward is getattr(kind, "forward", None) else None
            return _plain(made) if isinstance(made, Elementwise) else made
    return None


def _is_library(kind: type) -> bool:
    """A user's own class that happens to be called ReLU is measured, not looked up."""
    return kind.__module__.partition(".")[0] == "torch"


def _plain(function: Elementwise) -> Unit:
    return Unit(function.name, ((1.0, function),))


def _settings(param: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if param is None:
        return (), {}
    if isinstance(param, Mapping):
        return (), dict(param)
    return (tuple(param) if isinstance(param, (tuple, list)) else (param,)), {}


def _normalise(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _unknown(name: str) -> str:
    near = [_SPELLINGS[match] for match in get_close_matches(_normalise(name), _SPELLINGS, n=3)]
    near = list(dict.fromkeys(near))
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(sorted(ACTIVATIONS))}."
    return f"no activation is called {name!r}. {hint} A function of arrays works too."


def _signature(key: str) -> str:
    import inspect

    arguments = inspect.signature(ACTIVATIONS[key]).parameters
    return f"({', '.join(map(str, arguments.values()))})" if arguments else "no param"


def _kind(nonlinearity: Any) -> str:
    return f"a {type(nonlinearity).__name__}"


_SPELLINGS = {_normalise(name): name for name in (*ACTIVATIONS, *REFUSED)} | {
    _normalise(alias): name for alias, name in ALIASES.items()
}
