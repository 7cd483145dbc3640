"""The vectors u and v of spectral norm: what power iteration makes of the weight that was written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm as Hook

from stepzero import streams
from stepzero.errors import ApplyError
from stepzero.laws import Kept, Sphere
from stepzero.network import Slot, buffer_slots, parameter_slots

from ._arrays import as_array
from ._match import Entries

ITERATIONS = 15  # as in the constructor
VECTORS = frozenset({"_u", "_v"})


@dataclass(frozen=True, slots=True)
class Iteration:
    """A spectral norm, the chain of parametrisations that it stands in, and the canonical names of their tensors."""

    layer: Any
    home: ParametrizationList
    vectors: Mapping[str, Slot]  # by canonical name
    weights: frozenset[str]  # parameters that the weight is computed from

    def run(self, layer: Any, weight: Any, seed: int) -> None:
        """Do to this layer, or a copy, what its constructor does: power iterations on a weight, from a random direction."""
        for before in list(self.home)[: list(self.home).index(self.layer)]:
            weight = before(weight)
        name = next(name for name, slot in self.vectors.items() if any(attr == "_v" for _, attr in slot.places))
        layer._v.copy_(torch.from_numpy(Sphere().draw(tuple(layer._v.shape), seed=seed, name=name)))
        layer._power_method(layer._reshape_weight_to_matrix(weight), ITERATIONS)


@torch.no_grad()
def power_iterated(layer: Any, model: nn.Module, path: str, seed: int) -> None:
    """Iterate the vectors of one spectral norm on the weight that stands in the model.

    Raises:
        ApplyError: if its weight is not in the model.
    """
    found = next((i for i in iterations(model) if i.layer is layer), None)
    if found is None:
        raise ApplyError(f"{path}: a spectral norm whose weight is not in the model. Give its vectors (values={{…}}).")
    home: Any = found.home
    found.run(layer, home.original, seed)


def stale_vectors(model: nn.Module, drawn: Collection[str]) -> dict[str, Slot]:
    """Return the vectors of spectral norms whose weights are drawn, by canonical name: those there belong to other weights."""
    return {n: s for i in iterations(model) if not i.weights.isdisjoint(drawn) for n, s in i.vectors.items()}


@torch.no_grad()
def drawn_vectors(
    model: nn.Module, plan: Entries, kept: Mapping[str, torch.Tensor], seed: int
) -> dict[str, torch.Tensor]:
    """Return the vectors that `materialize_` would leave, one weight in memory at a time; the model may be hollow.

    Args:
        model: With spectral norms of either kind; the old one (a hook) starts from random directions, as its constructor does.
        plan: Laws of the weights.
        kept: Values of the weights that the plan does not draw.
        seed: As for `materialize_`.
    """
    values: dict[str, torch.Tensor] = {}
    for found in iterations(model):
        weights = [_value(name, plan, kept, seed) for name in found.weights]
        if len(weights) == 1 and weights[0] is not None:
            twin = deepcopy(found.layer).to_empty(device="cpu")
            found.run(twin, weights[0], seed)
            values |= {n: getattr(twin, slot.places[0][1]) for n, slot in found.vectors.items()}
    for name, slot in _hooked(model):
        shape, dtype = tuple(slot.tensor.shape), slot.tensor.dtype
        values[name] = torch.from_numpy(Sphere().draw(shape, seed=seed, name=name)).to(dtype)
    return values


def iterations(model: nn.Module) -> Iterator[Iteration]:
    """Yield the spectral norms of a model that are parametrisations."""
    homes = [m for m in model.modules() if isinstance(m, ParametrizationList) and any(_iterates(p) for p in m)]
    if not homes:
        return
    buffers, parameters = buffer_slots(model), parameter_slots(model)
    for home in homes:
        weights = frozenset(n for n, slot in parameters.items() if any(owner is home for owner, _ in slot.places))
        for layer in filter(_iterates, home):
            held = {n: s for n, s in buffers.items() if any(owner is layer for owner, _ in s.places)}
            yield Iteration(layer, home, held, weights)


def _iterates(layer: nn.Module) -> bool:
    return isinstance(layer, _SpectralNorm) and not layer._buffers.keys().isdisjoint(VECTORS)


def _value(name: str, plan: Entries, kept: Mapping[str, torch.Tensor], seed: int) -> torch.Tensor | None:
    """Return the values of a parameter, drawn in the format of its entry."""
    if name in kept or name not in plan or isinstance(plan[name].law, Kept):
        return kept.get(name)
    entry = plan[name]
    drawn = torch.empty(entry.shape, dtype=getattr(torch, entry.dtype))
    streams.fill(as_array(drawn), entry.law, seed, name, streams.Region(tuple(entry.shape)), dtype=entry.dtype)
    return drawn


def _hooked(model: nn.Module) -> Iterator[tuple[str, Slot]]:
    """Yield the vectors of spectral norms that are hooks."""
    hooks = [(m, h.name) for m in model.modules() for h in m._forward_pre_hooks.values() if isinstance(h, Hook)]
    places = {(id(module), f"{weight}_{end}") for module, weight in hooks for end in "uv"}
    for name, slot in buffer_slots(model).items() if places else ():
        if any((id(module), attribute) in places for module, attribute in slot.places):
            yield name, slot
