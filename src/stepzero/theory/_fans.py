"""Fans: how many inputs reach one output of a weight, and how many outputs one input reaches, for every geometry."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stepzero.errors import FanError, RecipeError

from ._geometry import Axis
from ._reading import Sizes, read_weight
from ._weights import Weight

FanMode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
FAN_MODES: tuple[str, ...] = get_args(FanMode)


@dataclass(frozen=True, slots=True)
class Fans:
    """The two fans of a weight; unpacks as `fan_in, fan_out`.

    Forward, E[y²] = Var[w] · fan_in · E[x²]; backward, E[(∂L/∂x)²] = Var[w] · fan_out · E[(∂L/∂y)²] (He et al. 2015, eq. 7, 12).

    Args:
        fan_in: Inputs that reach one output, on average over positions.
        fan_out: Outputs that one input reaches, on average over positions.
        fan_in_phases: fan_in of each output phase, where a stride leaves them unequal; empty where they are alike.
        fan_out_phases: fan_out of each input phase, likewise.
    """

    fan_in: float
    fan_out: float
    fan_in_phases: tuple[float, ...] = ()
    fan_out_phases: tuple[float, ...] = ()

    @property
    def fan_avg(self) -> float:
        """(fan_in + fan_out)/2, Glorot & Bengio's compromise."""
        return (self.fan_in + self.fan_out) / 2

    @property
    def fan_geo_avg(self) -> float:
        """√(fan_in · fan_out): forward and backward miss by the same factor."""
        return math.sqrt(self.fan_in * self.fan_out)

    @property
    def forward_spread(self) -> float:
        """Largest over smallest variance among output phases; above 1 no single std is right (a checkerboard)."""
        return _spread(self.fan_in_phases)

    @property
    def backward_spread(self) -> float:
        """Largest over smallest gradient variance among input phases."""
        return _spread(self.fan_out_phases)

    def of(self, mode: str) -> float:
        """Return the fan of this mode.

        Raises:
            RecipeError: if the mode is not one of fan_in, fan_out, fan_avg, fan_geo_avg.
        """
        if mode not in FAN_MODES:
            raise RecipeError(f"mode={mode!r} is not a fan. Choose one of {', '.join(FAN_MODES)}.")
        return float(getattr(self, mode))

    def to_dict(self) -> dict[str, Any]:
        """Return both fans, and the phases where there are any, as plain data."""
        phases = {"fan_in_phases": list(self.fan_in_phases), "fan_out_phases": list(self.fan_out_phases)}
        return {"fan_in": self.fan_in, "fan_out": self.fan_out} | {name: each for name, each in phases.items() if each}

    def __iter__(self) -> Iterator[float]:
        yield self.fan_in
        yield self.fan_out

    def __repr__(self) -> str:
        forward = f", forward_spread={self.forward_spread:g}" if self.fan_in_phases else ""
        backward = f", backward_spread={self.backward_spread:g}" if self.fan_out_phases else ""
        return f"Fans(fan_in={self.fan_in:.8g}, fan_out={self.fan_out:.8g}{forward}{backward})"


@dataclass(frozen=True, slots=True)
class FanPattern:
    """The fans position by position.

    Args:
        fan_in: Inputs that reach each output position.
        fan_out: Outputs that each input position reaches.
    """

    fan_in: NDArray[np.float64]
    fan_out: NDArray[np.float64]


def fans(
    shape_or_layer: Any,
    *,
    groups: int = 1,
    transposed: bool = False,
    stride: Sizes = 1,
    padding: Sizes | str | tuple[tuple[int, int], ...] = 0,
    dilation: Sizes = 1,
    output_padding: Sizes = 0,
    padding_mode: str = "zeros",
    input_size: Sizes | None = None,
    layout: str | None = None,
    einsum: str | None = None,
    parts: int = 1,
    weight: str | None = None,
) -> Fans:
    r"""Return fan_in and fan_out of a weight, as averages where borders, strides or groups make them uneven.

    With T the number of (output, tap) pairs that hit a real input along one axis,
    fan_in = (in/groups)·∏ T/n_out and fan_out = (out/groups)·∏ T/n_in. Without `input_size` every tap hits:
    fan_in = k²·in/groups and fan_out = k²·out/(groups·s²), or the two with s² changed over if transposed.

    Args:
        shape_or_layer: Shape of a weight [out, in/groups, *kernel] ([in, out/groups, *kernel] if transposed), an array or
            tensor of that shape, or a layer, which brings its own geometry.
        groups: Groups of a convolution.
        transposed: True for a transposed convolution.
        stride: Stride, for all axes or each.
        padding: Padding, for all axes or each, or each as (before, after); "same" or "valid". Counts only with `input_size`.
        dilation: Dilation, for all axes or each.
        output_padding: Output padding of a transposed convolution.
        padding_mode: zeros, reflect, replicate or circular.
        input_size: Positions of the input map, for all axes or each. Near the border of a small map taps miss.
        layout: What each axis is: O outputs, I inputs, E or G copies (experts, groups), any other letter kernel. HWIO, IO, EIO …
        einsum: Equation "inputs,weight->outputs" that the weight is used in.
        parts: Equal blocks of outputs that are weights of their own: 3 for packed q/k/v, 4 for LSTM gates. fan_out is of one.
        weight: Which weight of a layer that has several.

    Raises:
        FanError: if the shape has no fan, or the geometry is impossible.

    Examples:
        >>> fans((32, 1, 5, 5))   # the article's: 5·5·1 inputs reach an output, an input reaches 5·5·32 outputs
        Fans(fan_in=25, fan_out=800)
        >>> fans((768, 3, 16, 16), stride=16)   # a patch embedding: patches do not overlap
        Fans(fan_in=768, fan_out=768)
        >>> fans((64, 32, 3, 3), transposed=True, stride=2)   # 1, 2, 2 or 4 taps meet in an output: a checkerboard
        Fans(fan_in=144, fan_out=288, forward_spread=4)
    """
    return _fans(
        read_weight(shape_or_layer, {name: value for name, value in locals().items() if name != "shape_or_layer"})
    )


def fan_pattern(shape_or_layer: Any, **geometry: Any) -> FanPattern:
    """Return the fans position by position: of the map if `input_size` is given, else of one period of the stride.

    Args:
        shape_or_layer: As for `fans`.
        **geometry: As for `fans`.

    Raises:
        FanError: if the shape has no fan, or the geometry is impossible.

    Examples:
        >>> fan_pattern((8, 1, 3), padding=1, input_size=4).fan_in   # one tap misses at each end
        array([2., 3., 3., 2.])
    """
    return _pattern(read_weight(shape_or_layer, geometry))


def tied(*uses: Fans) -> Fans:
    """Return the fans of one weight that is used in several places, as the geometric mean over its uses.

    One std cannot be right for all of them: with the geometric mean the factors by which they miss multiply to 1.
    The fans of each use stay visible as phases. An embedding of width d that is also the read-out gives
    std d^(−1/4), the scale that T-Fixup found (Huang et al. 2020).

    Raises:
        FanError: if there is no use.

    Examples:
        >>> tied(Fans(1, 512), Fans(512, 50000)).fan_in   # look-up, and read-out
        22.62741699796952
    """
    if not uses:
        raise FanError("a tied weight needs at least one use.")
    fan_in, fan_out = (
        math.exp(sum(math.log(use.of(mode)) for use in uses) / len(uses)) for mode in ("fan_in", "fan_out")
    )
    return Fans(fan_in, fan_out, _uneven([use.fan_in for use in uses]), _uneven([use.fan_out for use in uses]))


def _fans(weight: Weight) -> Fans:
    fan_in, fan_out = weight.fan_in, weight.fan_out
    if not fan_in:
        raise FanError("no tap of this kernel ever hits the input: every output is padding.")
    interior = Weight(weight.inputs, weight.outputs, tuple(_interior(axis) for axis in weight.axes))
    pattern = _pattern(interior)
    return Fans(_number(fan_in), _number(fan_out), _uneven(pattern.fan_in.ravel()), _uneven(pattern.fan_out.ravel()))


def _pattern(weight: Weight) -> FanPattern:
    forward, backward = np.array(float(weight.inputs)), np.array(float(weight.outputs))
    for axis in weight.axes:
        per_output, per_input = axis.counts()
        forward, backward = np.multiply.outer(forward, per_output), np.multiply.outer(backward, per_input)
    return FanPattern(forward, backward)


def _interior(axis: Axis) -> Axis:
    return Axis(axis.kernel, axis.stride, axis.dilation, transposed=axis.transposed)


def _uneven(each: Any) -> tuple[float, ...]:
    values = tuple(_number(Fraction(float(value))) for value in each)
    return values if len(set(values)) > 1 else ()


def _spread(phases: tuple[float, ...]) -> float:
    if not phases:
        return 1.0
    return max(phases) / min(phases) if min(phases) else math.inf


def _number(value: Fraction) -> float:
    """An int where the fan is whole, so that 25 prints as 25."""
    return int(value) if value.denominator == 1 else float(value)
