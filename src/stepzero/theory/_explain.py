"""Why a weight gets the std that it gets: the chain from its shape to its bound, each step with numbers and source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from stepzero.errors import RecipeError
from stepzero.reporting import Step, explanation_html, explanation_markdown, explanation_text

from ._chain import steps
from ._fans import Fans, fans
from ._gains import Activation, activation
from ._layers import is_layer
from ._reading import read_weight
from ._subject import Chain

DISTRIBUTIONS = ("uniform", "normal", "truncated_normal")


@dataclass(frozen=True, slots=True)
class Explanation:
    """A chain of steps that ends in a law, and the numbers that it arrives at.

    Args:
        title: What is explained.
        steps: Each with its reason, its equations and its source.
        numbers: The results by name: fan_in, fan_out, fan, gain, std, and bound where there is one.
    """

    title: str
    steps: tuple[Step, ...]
    numbers: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return title, numbers and steps as plain data."""
        return {"title": self.title, **self.numbers, "steps": [step.to_dict() for step in self.steps]}

    def to_markdown(self) -> str:
        """Return the explanation as Markdown with LaTeX equations."""
        return explanation_markdown(self.title, self.steps)

    def to_html(self) -> str:
        """Return the explanation as an HTML section with MathML."""
        return explanation_html(self.title, self.steps)

    def _repr_html_(self) -> str:
        return self.to_html()

    def __str__(self) -> str:
        return explanation_text(self.title, self.steps)

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={number:.6g}" for name, number in self.numbers.items())
        return f"Explanation({self.title!r}, {numbers})"


def explain(
    layer_or_shape: Any,
    nonlinearity: Any = "relu",
    param: Any = None,
    mode: str = "fan_in",
    distribution: str = "uniform",
    **geometry: Any,
) -> Explanation:
    """Return why a weight followed by an activation gets its std: weight shape → fan → gain → std → bound.

    Args:
        layer_or_shape: A layer, or the shape of a weight [out, in, *kernel].
        nonlinearity: What follows it: anything that `gain` takes.
        param: Settings of a named activation, such as the negative slope of leaky_relu.
        mode: Which fan: fan_in, fan_out, fan_avg or fan_geo_avg.
        distribution: uniform, normal or truncated_normal.
        **geometry: What `fans` has to know about a shape: groups, stride, transposed, padding, input_size, layout, …

    Raises:
        FanError: if the shape has no fan.
        ActivationError: if the activation has no gain.
        RecipeError: if mode or distribution is unknown.

    Examples:
        >>> found = explain((32, 1, 5, 5))
        >>> found.numbers["fan_in"], round(found.numbers["std"], 5)
        (25, 0.28284)
    """
    if distribution not in DISTRIBUTIONS:
        raise RecipeError(f"distribution={distribution!r} is unknown. Choose one of {', '.join(DISTRIBUTIONS)}.")
    weight, found = read_weight(layer_or_shape, geometry), fans(layer_or_shape, **geometry)
    chain = Chain(
        weight, found, activation(nonlinearity, param), mode, distribution, _as_torch(layer_or_shape, geometry)
    )
    return Explanation(_title(layer_or_shape, chain.activation), steps(chain), _numbers(chain, found))


def _title(layer_or_shape: Any, after: Activation) -> str:
    if is_layer(layer_or_shape):
        what = type(layer_or_shape).__name__
    else:
        what = f"a weight of shape {tuple(getattr(layer_or_shape, 'shape', layer_or_shape))}"
    return f"How {what} gets its std, followed by {after.name}"


def _as_torch(layer_or_shape: Any, geometry: dict[str, Any]) -> bool:
    """Whether the weight is that of a linear layer or a convolution as torch makes them, with torch's default init."""
    if is_layer(layer_or_shape):
        return any(kind.__name__ in ("Linear", "_ConvNd") for kind in type(layer_or_shape).__mro__)
    return not {"layout", "einsum", "parts"} & set(geometry)


def _numbers(chain: Chain, found: Fans) -> dict[str, float]:
    numbers = {
        "fan_in": found.fan_in,
        "fan_out": found.fan_out,
        "fan": chain.fan,
        "gain": chain.activation.gain,
        "std": chain.std,
    }
    return numbers | ({"bound": math.sqrt(3) * chain.std} if chain.distribution == "uniform" else {})
