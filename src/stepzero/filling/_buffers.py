"""Where the values of buffers come from: the layer's own reset, the author's constructor, or the caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_parameter_registration_hook

from stepzero.errors import ApplyError
from stepzero.network import Slot, buffer_slots

Factory = Callable[[], nn.Module]

# Layers that know how to write their own buffers: the method, and the buffers that it writes.
RESETS: Mapping[type[nn.Module], tuple[str, frozenset[str]]] = MappingProxyType({
    _NormBase: ("reset_running_stats", frozenset({"running_mean", "running_var", "num_batches_tracked"})),
})  # fmt: skip


def reset_of(slot: Slot) -> Callable[[], object] | None:
    """Return the method by which a layer writes this buffer, or None."""
    for module, attribute in slot.places:
        for kind, (method, attributes) in RESETS.items():
            if isinstance(module, kind) and attribute in attributes:
                found: Callable[[], object] = getattr(module, method)
                return found
    return None


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
