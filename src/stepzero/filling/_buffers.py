"""Where the values of buffers come from: the layer's own reset, the author's constructor, or the caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.utils.parametrizations import _SpectralNorm

from stepzero.errors import ApplyError
from stepzero.network import Slot, buffer_slots

from ._spectral import VECTORS, power_iterated

Factory = Callable[[], nn.Module]


def reset_of(slot: Slot, model: nn.Module, seed: int = 0) -> Callable[[], object] | None:
    """Return what writes this buffer once the parameters have their values, where its layer says how; or None."""
    for layer, attribute in slot.places:
        for kind, (reset, attributes) in RESETS.items():
            if isinstance(layer, kind) and attribute in attributes:
                return partial(reset, layer, model, slot.name.rpartition(".")[0], seed)
    return None


def reset(slot: Slot, model: nn.Module, seed: int) -> None:
    """Write a buffer as its layer says, if it does."""
    if (write := reset_of(slot, model, seed)) is not None:
        write()


def _running_statistics(layer: Any, model: nn.Module, path: str, seed: int) -> None:
    layer.reset_running_stats()


# Layers that know how to write their own buffers: by what, and the buffers that it writes.
Reset = Callable[[nn.Module, nn.Module, str, int], None]
RESETS: Mapping[type[nn.Module], tuple[Reset, frozenset[str]]] = MappingProxyType({
    _NormBase: (_running_statistics, frozenset({"running_mean", "running_var", "num_batches_tracked"})),
    _SpectralNorm: (power_iterated, VECTORS),
})  # fmt: skip


def constructed_buffers(factory: Factory | None) -> dict[str, torch.Tensor]:
    """Return the buffers that a model's constructor computes, by canonical name; its parameters never leave the meta device.

    Each parameter moves to meta as it is registered, so a constructor's own initialisation costs nothing. The random state is
    restored.

    Raises:
        ApplyError: if the factory does not return a module.
    """
    if factory is None:
        return {}
    hook = register_module_parameter_registration_hook(_on_meta)  # type: ignore[arg-type]
    try:
        with torch.random.fork_rng(), torch.device("cpu"):
            model = factory()
    finally:
        hook.remove()
    if not isinstance(model, nn.Module):
        raise ApplyError(f"the factory returned {type(model).__name__}, not a torch.nn.Module. Nothing was written.")
    return {name: slot.tensor for name, slot in buffer_slots(model).items() if not slot.tensor.is_meta}


def _on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
    if parameter is None or isinstance(parameter, nn.parameter.UninitializedParameter):
        return parameter
    return nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
