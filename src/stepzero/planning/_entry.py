"""What a plan says of one parameter: its law, why, and what is predicted of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stepzero.errors import LawError, PlanError
from stepzero.laws import Law, from_dict

NUMBERS = ("fan_in", "fan_out", "gain", "second_moment", "gradient_second_moment", "learning_rate")
WORDS = ("recipe", "op", "module", "why")


@dataclass(frozen=True, slots=True)
class Entry:
    """One parameter of a plan.

    Args:
        name: Canonical name, as in `named_parameters()`.
        shape: Shape of the tensor.
        dtype: Its type, such as "float32".
        law: The distribution that it is drawn from; `Kept()` leaves it as it is.
        recipe: The rule that chose the law, in a word or two.
        reasons: Why, step by step, in words.
        second_moment: Predicted second moment of the output of the op that it feeds, averaged over positions.
        gradient_second_moment: Predicted second moment of the gradient there, per unit of output gradient.
        fan_in: Inputs that reach one output, averaged where borders make them uneven.
        fan_out: Outputs that one input reaches.
        gain: std·√fan_in.
        op: The op that it feeds, such as "conv2d".
        module: Path of the module that owns it.
        why: Who chose the law, the goal or a policy, in one sentence with its source.
        learning_rate: Factor on the learning rate that the parametrisation goes with (µP, CompleteP, for Adam).

    Raises:
        PlanError: if a field has the wrong form, or no tensor of this shape can follow the law.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    law: Law
    recipe: str = ""
    reasons: tuple[str, ...] = ()
    second_moment: float | None = None
    gradient_second_moment: float | None = None
    fan_in: float | None = None
    fan_out: float | None = None
    gain: float | None = None
    op: str = ""
    module: str = ""
    why: str = ""
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise PlanError(f"a plan entry needs the name of a parameter, got {self.name!r}.")
        if not isinstance(self.law, Law):
            raise PlanError(
                f"{self.name}: {self.law!r} is not a law. Give one of stepzero.laws, or a recipe's law(fans)."
            )
        object.__setattr__(self, "shape", _sizes(self.name, self.shape))
        object.__setattr__(self, "dtype", str(self.dtype).removeprefix("torch."))
        object.__setattr__(self, "reasons", tuple(self.reasons))
        try:
            self.law.require(self.shape)
        except LawError as error:
            raise PlanError(f"{self.name}: {error}") from None

    @property
    def std(self) -> float | None:
        """Standard deviation of its elements (root mean square where they differ); None where it is kept."""
        if self.law.kind == "kept":
            return None
        if math.isfinite(self.law.std):
            return self.law.std
        mean, second = self.law.moments(self.shape)
        return math.sqrt(max(float((second - mean**2).mean()), 0.0))

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as plain data, without the fields that are empty."""
        data: dict[str, Any] = {"shape": list(self.shape), "dtype": self.dtype, "law": self.law.to_dict()}
        data |= {name: getattr(self, name) for name in NUMBERS if getattr(self, name) is not None}
        data |= {name: getattr(self, name) for name in WORDS if getattr(self, name)}
        return data | ({"reasons": list(self.reasons)} if self.reasons else {})

    @classmethod
    def from_dict(cls, name: str, data: Mapping[str, Any]) -> Entry:
        """Return the entry that `to_dict()` described.

        Raises:
            PlanError: if a field is missing, unknown or of another form; it names the parameter.
        """
        known = {"shape", "dtype", "law", "reasons", *NUMBERS, *WORDS}
        if not isinstance(data, Mapping) or not {"shape", "dtype", "law"} <= data.keys() <= known:
            raise PlanError(
                f"{name}: an entry has the fields {', '.join(sorted(known))}; shape, dtype and law are needed."
            )
        try:
            fields: dict[str, Any] = {key: float(data[key]) for key in NUMBERS if data.get(key) is not None}
            fields |= {key: str(data[key]) for key in WORDS if key in data}
            law = from_dict(data["law"])
        except (LawError, TypeError, ValueError) as error:
            raise PlanError(f"{name}: {error}") from None
        return cls(name, tuple(data["shape"]), data["dtype"], law, reasons=tuple(data.get("reasons", ())), **fields)


def _sizes(name: str, shape: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in shape)
    except (TypeError, ValueError):
        sizes = (-1,)
    if any(size < 0 for size in sizes):
        raise PlanError(f"{name}: {shape!r} is not a shape. Give a tuple of sizes ≥ 0.")
    return sizes
