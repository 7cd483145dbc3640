"""The names without an underscore, which torch deprecated: they warn as torch's do, and then do the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from . import _functions as functions

P = ParamSpec("P")
R = TypeVar("R")


def _deprecated(function: Callable[P, R]) -> Callable[P, R]:
    new = function.__name__
    old = new.removesuffix("_")

    @wraps(function)
    def alias(*args: P.args, **kwargs: P.kwargs) -> R:
        message = f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`."
        warnings.warn(message, FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    alias.__name__ = alias.__qualname__ = old
    alias.__doc__ = f"Deprecated: use `{new}`."
    return alias


uniform = _deprecated(functions.uniform_)
normal = _deprecated(functions.normal_)
constant = _deprecated(functions.constant_)
eye = _deprecated(functions.eye_)
dirac = _deprecated(functions.dirac_)
xavier_uniform = _deprecated(functions.xavier_uniform_)
xavier_normal = _deprecated(functions.xavier_normal_)
kaiming_uniform = _deprecated(functions.kaiming_uniform_)
kaiming_normal = _deprecated(functions.kaiming_normal_)
orthogonal = _deprecated(functions.orthogonal_)
sparse = _deprecated(functions.sparse_)
