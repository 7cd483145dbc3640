"""The laws that need no signal: what the user fixed, biases, norms, directions, and what stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from stepzero.errors import LawError, PlanError
from stepzero.laws import Constant, Kept, Law, Normal
from stepzero.moments import kept_moments
from stepzero.network import Graph

from ._overrides import Override
from ._slots import Slot

PLANNED = frozenset({"weight", "magnitude"})  # roles whose scale answers to the signal
SCALE_FREE = frozenset({"direction", "standardised", "spectral"})  # an op divides their scale out
ORDER = ("weight", "magnitude", "direction", "standardised", "spectral", "norm scale", "shift")


class Given(NamedTuple):
    """A law that no signal decides, and why."""

    law: Law
    recipe: str
    reasons: tuple[str, ...]
    why: str = ""  # the policy that spoke, in a sentence with its source


def role_of(uses: list[Slot]) -> str:
    """The role that decides: weights before shifts; a standardised weight's gain is its magnitude."""
    roles = [slot.role for slot in uses]
    if not roles:
        return "unused"
    for slot in uses:
        if slot.role == "norm scale" and "input" in slot.node.arguments and _normalises_weight(slot):
            return "magnitude"
    role = next((role for role in ORDER if role in roles), "other")
    return (
        "other" if role in ("standardised", "spectral") and "other" in roles else role
    )  # what else reads it sees its scale


def given_laws(
    graph: Graph, use: Mapping[str, list[Slot]], overrides: Mapping[str, Override], ruled: Mapping[str, Given]
) -> dict[str, Given]:
    """Return the law of each parameter that the signal does not decide; what the user fixed before what a policy says."""
    found: dict[str, Given] = {}
    for name, uses in use.items():
        override, shape, role = overrides.get(name), graph.values[graph.parameters[name]].shape, role_of(uses)
        if override is not None and isinstance(override.choice, Law):
            found[name] = _overridden(override, name, shape)
        elif override is None and name in ruled:
            found[name] = ruled[name]
        elif role in BASICS:
            found[name] = BASICS[role]
        elif role in SCALE_FREE:
            found[name] = _scale_free(role, uses[0].node.op, shape)
        elif role not in PLANNED:
            found[name] = Given(Kept(), "kept", (_kept_reason(uses),))
    return found


def parameter_moments(law: Law, shape: tuple[int, ...], uses: list[Slot], held: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return mean and second moment of a parameter: by its law, or of the values that it keeps."""
    if not isinstance(law, Kept):
        mean, second = law.moments(shape)
        return torch.from_numpy(mean).double(), torch.from_numpy(second).double()
    if held is None or held.device.type == "meta":
        multiplies = any(s.node.op in ("mul", "prelu", "div") for s in uses)
        value = 0.25 if any(s.node.op == "prelu" for s in uses) else float(multiplies)
        return torch.tensor(value, dtype=torch.float64), torch.tensor(value**2, dtype=torch.float64)
    return kept_moments(held, [s.node for s in uses])


def open_scale() -> tuple[Tensor, Tensor]:
    """Return the moments of a parameter whose scale is still open."""
    return torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)


def _overridden(override: Override, name: str, shape: tuple[int, ...]) -> Given:
    """Raise PlanError unless the law that the user chose fits the parameter."""
    assert isinstance(override.choice, Law)
    try:
        override.choice.require(shape)
    except LawError as error:
        raise PlanError(f"override {override.pattern!r} matches {name}, but {error}") from None
    said = f"override {override.pattern!r}"
    return Given(override.choice, "override", (said,), f"{said}: you chose {override.choice!r}.")


def _scale_free(role: str, op: str, shape: tuple[int, ...]) -> Given:
    fan = max(1, prod(shape) // max(1, shape[0]))
    divisor = "its spectral norm: no law of it moves the layer's scale" if role == "spectral" else op
    return Given(Normal(fan**-0.5), role, (f"its scale is divided out by {divisor}; 1/√fan_in keeps it near 1",))


def _normalises_weight(slot: Slot) -> bool:
    return slot.node.op == "batch_norm" and bool(slot.node.arguments.get("training")) and slot.standardises


def _kept_reason(uses: list[Slot]) -> str:
    if not uses:
        return "no op of this forward pass reads it"
    slot = uses[0]
    return f"no rule decides about {slot.node.op}[{slot.argument}]: its value stays as it is"


BASICS: Mapping[str, Given] = {
    "norm scale": Given(Constant(1.0), "norm scale", ("a norm starts as a pure normalisation",)),
    "shift": Given(Constant(0.0), "zero bias", ("b = 0, as eq. 8 of He et al. 2015 assumes",)),
}
