"""From the MODEL argument to a module, a plan for it, and back from a file of weights. Torch is loaded here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from stepzero import network, planning
from stepzero.errors import FileError

from ._options import key_values
from ._progress import working

NAMES = 3  # how many names an error quotes
MOST_MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 2**33


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from: enough to build it on meta, and once more for real."""

    model: str
    arguments: dict[str, Any]
    evaluate: bool

    @classmethod
    def of(cls, model: str, pairs: list[str] | None, evaluate: bool) -> Source:
        """Return the source that the command line names."""
        return cls(model, key_values(pairs), evaluate)

    def hollow(self) -> nn.Module:
        """Return the model with its buffers, but without memory for its parameters; its author's own init is recorded.

        A buffer that the constructor draws stays on meta: then the model is built once for its buffers.
        """
        with working(f"reading {self.model}"):
            module = network.load_model(self.model, self.arguments, record=True).train(not self.evaluate)
        if any(buffer.is_meta for buffer in module.buffers()) and _bytes(module) <= MOST_MEMORY:
            own = network.buffer_slots(self.real(seed=0))
            for name, slot in network.buffer_slots(module).items():
                for owner, attribute in slot.places if slot.tensor.is_meta else ():
                    owner._buffers[attribute] = own[name].tensor
        return module

    def real(self, seed: int) -> nn.Module:
        """Return the model as its own constructor draws it from torch's generator with this seed."""
        with working(f"building {self.model}"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return network.load_model(self.model, self.arguments, device="cpu").train(not self.evaluate)

    def plan(self, module: nn.Module, inputs: list[str] | None, options: dict[str, Any], seed: int) -> planning.Plan:
        """Return a plan for a hollow model, under the name that the command line gave it.

        What the plan leaves alone follows the author's own laws. Where those are not known, the values are built and the plan is
        made again with them; where that would take too much memory, the plan says that they are unknown.
        """
        with working(f"planning {self.model}"):
            plan = replace(planning.plan(module, inputs, **options), model=self.model)
        unknown = [name for name in kept_names(plan) if module.get_parameter(name).is_meta]
        if not unknown:
            return plan
        if _bytes(module) > MOST_MEMORY:
            note = f"values of kept parameters are unknown: to build them would take {_bytes(module) / 1e9:.0f} GB"
            return replace(plan, notes=(*plan.notes, note))
        self.fill(module, unknown, seed)
        with working(f"planning {self.model}"):
            return replace(planning.plan(module, inputs, **options), model=self.model)

    def fill(self, module: nn.Module, names: Iterable[str], seed: int) -> None:
        """Give those parameters of a hollow model the values that its constructor draws."""
        slots = network.parameter_slots(module)
        hollow = [name for name in names if slots[name].tensor.is_meta]
        own = network.parameter_slots(self.real(seed)) if hollow else {}
        for name in hollow:
            for owner, attribute in slots[name].places:
                owner.register_parameter(attribute, cast(nn.Parameter, own[name].tensor))


def kept_names(plan: planning.Plan) -> list[str]:
    """Return the parameters that a plan leaves as they are."""
    return [name for name, entry in plan.items() if entry.law.kind == "kept"]


def _bytes(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def persistent_buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return what a state dict holds besides parameters."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    state = module.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if name not in parameters and isinstance(value, torch.Tensor)}


def load_weights(module: nn.Module, path: Path) -> None:
    """Give a model, hollow or not, the parameters of a safetensors file or a folder of them, and the buffers found there.

    Ties stay ties: the file holds a tied parameter once, under any of its names.

    Raises:
        FileError: if the file cannot be read, or is not one for this model; the model is as it was.
    """
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    shapes = {name: shape for file in files for name, shape in _shapes(file).items()}
    _require_fit(module, path, shapes)
    stored: dict[str, torch.Tensor] = {}
    for file in files:
        stored |= load_file(file)
    for slot in network.parameter_slots(module).values():
        values = stored[next(name for name in slot.names if name in stored)].to(slot.tensor.dtype)
        parameter = nn.Parameter(values, requires_grad=slot.tensor.requires_grad)
        for owner, attribute in slot.places:
            owner.register_parameter(attribute, parameter)
    for name, buffer in persistent_buffers(module).items():
        if name in stored:
            buffer.copy_(stored[name])


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a file, from its header.

    Raises:
        FileError: if it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 -- no mapping
    except (SafetensorError, OSError) as error:
        raise FileError(f"{path} cannot be read: {error}.") from None


def _require_fit(module: nn.Module, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise FileError unless the tensors of these names and shapes are those of the model."""
    places = module.state_dict(keep_vars=True)
    missing = [slot.name for slot in network.parameter_slots(module).values() if not shapes.keys() & set(slot.names)]
    odd = [name for name, shape in shapes.items() if name in places and tuple(places[name].shape) != shape]
    left = [name for name in shapes if name not in places]
    for names, problem in ((missing, "misses"), (left, "has, and the model has not,"), (odd, "has another shape of")):
        if names:
            more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
            raise FileError(f"{path} {problem} {', '.join(names[:NAMES])}{more}. It is not a file for this model.")
