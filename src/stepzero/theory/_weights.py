"""What a weight's axes mean: which of them mix inputs, which make outputs, which are copies, and which are kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from stepzero.errors import FanError

from ._geometry import Axis

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight as fans see it.

    Args:
        inputs: Input channels that one output channel mixes.
        outputs: Output channels that one input channel feeds.
        axes: The kernel, one value for each spatial axis.
    """

    inputs: int
    outputs: int
    axes: tuple[Axis, ...] = ()

    @property
    def fan_in(self) -> Fraction:
        """Inputs that reach one output, on average over positions."""
        return Fraction(self.inputs) * math.prod((axis.ratios[0] for axis in self.axes), start=Fraction(1))

    @property
    def fan_out(self) -> Fraction:
        """Outputs that one input reaches, on average over positions."""
        return Fraction(self.outputs) * math.prod((axis.ratios[1] for axis in self.axes), start=Fraction(1))


@dataclass(frozen=True, slots=True)
class Roles:
    """Sizes of a weight's axes by what they do."""

    inputs: int
    outputs: int
    kernel: Shape


def from_layout(shape: Shape, layout: str) -> Roles:
    """Read a shape by a layout such as OIHW (torch), HWIO (JAX, Keras), IO (GPT-2's Conv1D) or EIO (stacked experts).

    O counts outputs, I inputs; E and G are copies side by side (experts, groups), which no fan counts; every other letter is kernel.

    Raises:
        FanError: if the letters do not match the axes.
    """
    letters = layout.upper()
    if len(letters) != len(shape):
        raise FanError(f"layout={layout!r} names {len(letters)} axes, but shape {shape} has {len(shape)}.")
    if letters.count("O") != 1 or letters.count("I") > 1 or not letters.isalpha():
        raise FanError(
            f"layout={layout!r} must be letters with one O (outputs) and at most one I (inputs), such as OIHW, HWIO or EIO."
        )
    sizes = list(zip(letters, shape, strict=True))
    kernel = tuple(size for letter, size in sizes if letter not in "OIEG")
    return Roles(_sized(sizes, "I"), _sized(sizes, "O"), kernel)


def from_torch(shape: Shape, *, transposed: bool) -> Roles:
    """Read [out, in, *kernel], or [in, out, *kernel] of a transposed convolution."""
    inputs, outputs = (shape[0], shape[1]) if transposed else (shape[1], shape[0])
    return Roles(inputs, outputs, shape[2:])


def from_einsum(shape: Shape, equation: str) -> Roles:
    """Read a weight by an einsum equation "inputs,weight->outputs".

    An axis of the weight that the output lacks is summed over, so it counts as input; one that the input lacks is an
    output; one in all three is a copy (heads, experts).

    Raises:
        FanError: if the equation is not of that form or does not match the shape.
    """
    source, weight, target = _operands(equation, len(shape))
    sizes = dict(zip(weight, shape, strict=True))
    if len(sizes) != len(shape):
        raise FanError(f"einsum={equation!r} repeats an axis of the weight: a diagonal has no fan of its own.")
    if free := sorted(set(source) - set(weight) - set(target) - {"."}):
        raise FanError(
            f"einsum={equation!r} sums axis {free[0]!r} of the input before any weight: its size is not in the weight's shape."
        )
    inputs = math.prod(size for axis, size in sizes.items() if axis not in target)
    outputs = math.prod(size for axis, size in sizes.items() if axis in target and axis not in source)
    return Roles(inputs, outputs, ())


def _operands(equation: str, rank: int) -> tuple[str, str, str]:
    left, arrow, target = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    if not arrow or len(operands) != 2:
        raise FanError(f"einsum={equation!r} is not of the form 'inputs,weight->outputs' with two operands.")
    fitting = [i for i in (1, 0) if len(operands[i]) == rank and "." not in operands[i]]
    if not fitting:
        raise FanError(f"einsum={equation!r}: no operand has the {rank} axes of the weight.")
    return operands[1 - fitting[0]], operands[fitting[0]], target


def _sized(sizes: list[tuple[str, int]], letter: str) -> int:
    return next((size for name, size in sizes if name == letter), 1)
