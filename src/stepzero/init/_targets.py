"""What may stand where torch.nn.init takes a tensor, and how values reach it: tensors, layers, shards, weights that are computed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from stepzero.errors import ApplyError, SeedError
from stepzero.filling._holdings import is_distributed
from stepzero.laws import Law
from stepzero.theory import Fans, fans, layer_weights, read_layer

from ._draws import draw_by_seed, draw_by_torch

Generator: TypeAlias = torch.Generator | None
Target = TypeVar("Target", bound=Any)  # a tensor or a layer


@dataclass(frozen=True, slots=True)
class Slot:
    """One weight to be written.

    Args:
        shape: Its shape.
        layer: The layer that holds it; None for a bare tensor.
        weight: Its name within the layer.
    """

    shape: tuple[int, ...]
    layer: nn.Module | None = None
    weight: str = ""

    @property
    def fans(self) -> Fans:
        """The true fans of a layer's weight; those of the bare shape for a tensor."""
        return fans(self.shape) if self.layer is None else fans(self.layer, weight=self.weight)

    @property
    def groups(self) -> int:
        """Groups of a convolution."""
        return 1 if self.layer is None else int(self._read().get("groups", 1))

    @property
    def blocks(self) -> int:
        """Blocks of rows that are weights of their own: groups of a convolution, gates of a recurrent layer, packed q/k/v."""
        return 1 if self.layer is None else int(self._read().get("parts", 1)) * self.groups

    def _read(self) -> dict[str, Any]:
        return read_layer(self.layer, self.weight)


Rule: TypeAlias = Callable[[Slot], Law]


def is_left_to_torch(target: Any, *, random: bool) -> bool:
    """Return True where torch's own function does the right thing, or raises; warn where it does nothing.

    Raises:
        ApplyError: if torch would write to a temporary, or the same values to every shard.
    """
    kind = type(target)
    if (kind is nn.Parameter or kind is Tensor) and target.grad_fn is None and not target.is_meta:
        return True  # the usual case, and it has to be quick
    if not isinstance(target, (Tensor, nn.Module)):
        return True
    if isinstance(target, nn.Module):
        return False
    if target.grad_fn is not None and not _is_view(target):
        raise ApplyError(
            "this tensor was computed from other parameters (weight norm or another parametrisation), so values written into it "
            "would be lost. Give the layer itself in its place."
        )
    if is_distributed(target):
        if random:
            raise ApplyError(
                "the values of a DTensor would depend on the number of ranks, and on a CPU mesh every shard would get the same. "
                "Give seed= and name=."
            )
        return False
    if target.is_meta:  # torch's own contract is to return it as it is; at least somebody should hear of it
        warnings.warn("a meta tensor has no memory: nothing was initialised.", UserWarning, stacklevel=3)
    return True


def is_short(target: Any) -> bool:
    """Return True for a tensor in a format that has no QR decomposition."""
    return (
        isinstance(target, Tensor)
        and target.dtype in (torch.float16, torch.bfloat16)
        and not target.is_meta
        and target.numel() > 0
    )


def write(
    target: Target, rule: Rule, generator: Generator, seed: int | None, name: str, *, shift: float = 0.0
) -> Target:
    """Write values of the law that `rule` gives for each weight of the target, plus `shift`, and return the target.

    Raises:
        ApplyError: if there is nowhere to write.
        SeedError: if both a generator and a seed are given, or the seed is out of range.
    """
    if generator is not None and seed is not None:
        raise SeedError("generator= and seed= both choose the values. Give one of them.")
    draw = _Draw(generator, seed, shift)
    with torch.no_grad():
        if isinstance(target, nn.Module):
            _write_layer(target, rule, draw, name)
        else:
            draw(target, rule(Slot(tuple(target.shape))), name)
    return target


@dataclass(frozen=True, slots=True)
class _Draw:
    """Where values come from."""

    generator: Generator
    seed: int | None
    shift: float

    def __call__(self, tensor: Tensor, law: Law, name: str) -> None:
        if self.seed is None and not is_distributed(tensor):
            draw_by_torch(tensor, law, self.generator)
        else:
            draw_by_seed(tensor, law, self.seed or 0, name)
        if self.shift:
            tensor.add_(self.shift)


def _write_layer(layer: nn.Module, rule: Rule, draw: _Draw, name: str) -> None:
    """Write every weight matrix of a layer; all laws are known before the first value is written."""
    names = layer_weights(layer)
    if not names:
        raise ApplyError(f"{type(layer).__name__} has no weight. Give the tensor that you mean.")
    laws = {weight: rule(Slot(_held(layer, weight).shape, layer, weight)) for weight in names}
    for weight, law in laws.items():
        stream = f"{name}.{weight}" if name else weight
        holder, last = _holder(layer, weight)
        if parametrised := _assigner(holder, last):
            values = torch.empty_like(getattr(holder, last))
            draw(values, law, stream)
            parametrised(values)
        else:
            draw(getattr(holder, last), law, stream)
        _keep_padding(holder, last)


def _held(layer: nn.Module, weight: str) -> Tensor:
    holder, last = _holder(layer, weight)
    tensor: Tensor = getattr(holder, last)
    if nn.parameter.is_lazy(tensor):
        raise ApplyError(f"{type(layer).__name__} does not know the shape of its {weight} yet. Run it once before.")
    if tensor.is_meta:
        raise ApplyError(
            f"{type(layer).__name__}.{weight} is on meta and has no memory. Plan the model and materialise it, or move it with to_empty()."
        )
    return tensor


def _holder(layer: nn.Module, weight: str) -> tuple[nn.Module, str]:
    path, _, last = weight.rpartition(".")
    return (layer.get_submodule(path) if path else layer), last


def _assigner(holder: nn.Module, weight: str) -> Callable[[Tensor], None] | None:
    """Return how to set a weight that is computed from others; None for a weight that is there itself."""
    if weight in getattr(holder, "parametrizations", {}):
        return lambda values: setattr(holder, weight, values)
    if hasattr(holder, f"{weight}_g") and hasattr(holder, f"{weight}_v"):  # torch.nn.utils.weight_norm
        return lambda values: _assign_weight_norm(holder, weight, values)
    if hasattr(holder, f"{weight}_orig"):  # torch.nn.utils.spectral_norm, and pruning
        return lambda values: getattr(holder, f"{weight}_orig").copy_(values)
    return None


def _assign_weight_norm(holder: nn.Module, weight: str, values: Tensor) -> None:
    """Set direction and length such that their product is `values`, now and after the next forward."""
    length = getattr(holder, f"{weight}_g")
    axes = [axis for axis in range(values.dim()) if length.dim() == 0 or length.shape[axis] == 1]
    getattr(holder, f"{weight}_v").copy_(values)
    length.copy_(values.norm() if length.dim() == 0 else values.square().sum(dim=axes, keepdim=True).sqrt())
    getattr(holder, weight).copy_(values)


def _keep_padding(holder: nn.Module, weight: str) -> None:
    row = getattr(holder, "padding_idx", None)
    if isinstance(holder, (nn.Embedding, nn.EmbeddingBag)) and row is not None:
        getattr(holder, weight)[row].zero_()


def _is_view(tensor: Tensor) -> bool:
    base = tensor._base
    return base is not None and base.grad_fn is None
