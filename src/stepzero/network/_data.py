"""Keep data that passes between Python and tensors while a model runs on meta.

`torch.tensor(data, device="meta")` drops its data, and `numpy` refuses meta, before any dispatch mode hears of it. This
mode stands above and sends the first to the CPU, where the recorder takes it in, and answers the second from known numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from stepzero.network._known import Known

Handler = Callable[["DataKept", Any, Any, dict[str, Any]], Any]


class DataKept(TorchFunctionMode):
    """Sends data for meta to the CPU, lists of indices too, and known tensors on meta to NumPy."""

    def __init__(self, known: Known) -> None:
        super().__init__()
        self.known = known

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        handler = HANDLERS.get(func)
        if handler is None:
            return func(*args, **(kwargs or {}))
        return handler(self, func, args, dict(kwargs or {}))


def _from_data(mode: DataKept, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if not isinstance(args[0] if args else None, torch.Tensor) and _is_meta(kwargs.get("device")):
        kwargs["device"] = "cpu"
    if args and isinstance(args[0], (list, tuple)):
        args = (_numbers(mode, args[0]), *args[1:])
    return func(*args, **kwargs)


def _numbers(mode: DataKept, data: Any) -> Any:
    """Return nested lists of data with the numbers of known tensors in their place."""
    if isinstance(data, (list, tuple)):
        return [_numbers(mode, part) for part in data]
    shadow = mode.known.get(data) if isinstance(data, torch.Tensor) and data.dim() == 0 else None
    return data if shadow is None or not shadow.certain else _plain(shadow.tensor)


def _plain(number: torch.Tensor) -> Any:
    with torch._C._DisableTorchDispatch():
        return number.item()


def _like_self(mode: DataKept, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """`x.new_tensor(data)`: type and device of x."""
    own, data = args[0], kwargs.pop("data") if "data" in kwargs else args[1]
    if not own.is_meta or isinstance(data, torch.Tensor):
        return func(own, data, **kwargs)
    kwargs.setdefault("dtype", own.dtype)
    return torch.tensor(data, **kwargs | {"device": "cpu"})


def _to_python(mode: DataKept, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    shadow = mode.known.get(args[0])
    if shadow is None or not shadow.certain:
        return func(*args, **kwargs)
    with torch._C._DisableTorchDispatch():
        return func(shadow.tensor.detach().clone(), *args[1:], **kwargs)


def _indexed(mode: DataKept, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """`x[:, [0, 2]]`: torch makes the list into a tensor on the device of x, where its numbers would be lost."""
    own, index, *value = args
    if isinstance(index, tuple):
        index = tuple(map(_as_tensor, index))
    return func(own, _as_tensor(index), *value, **kwargs)


def _as_tensor(index: Any) -> Any:
    """Return a list of integers or booleans, or an array, as a tensor; anything else as it is."""
    if isinstance(index, list) and index and all(isinstance(part, (int, list)) for part in index):
        return torch.tensor(index)
    return torch.as_tensor(index) if type(index).__name__ == "ndarray" else index


def _is_meta(device: Any) -> bool:
    return device is not None and torch.device(device).type == "meta"


HANDLERS: Mapping[Any, Handler] = MappingProxyType(
    {
        torch.tensor: _from_data,
        torch.as_tensor: _from_data,
        torch.asarray: _from_data,
        torch.Tensor.new_tensor: _like_self,
        torch.Tensor.numpy: _to_python,
        torch.Tensor.__getitem__: _indexed,
        torch.Tensor.__setitem__: _indexed,
    }
)
