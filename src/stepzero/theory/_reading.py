"""From what a user hands over (a shape, a tensor or a layer, and its geometry) to a weight as fans see it, or one clear error."""

from __future__ import annotations

from operator import index
from typing import Any

from stepzero.errors import FanError

from ._geometry import FILLINGS, Axis
from ._layers import is_layer, read_layer
from ._weights import Roles, Weight, from_einsum, from_layout, from_torch

Sizes = int | tuple[int, ...]


def read_weight(shape_or_layer: Any, options: dict[str, Any]) -> Weight:
    """Return a weight with its channels counted and one `Axis` for each spatial axis.

    Args:
        shape_or_layer: A shape, an array or tensor, or a layer.
        options: Arguments of `fans`, by name; those that are missing have their defaults.

    Raises:
        FanError: if the shape has no fan, or the geometry is impossible.
    """
    if unknown := sorted(options.keys() - DEFAULTS.keys()):
        raise FanError(f"{unknown[0]}= is no setting of a weight. Choose among {', '.join(DEFAULTS)}.")
    options = DEFAULTS | options
    name = options.pop("weight")
    if is_layer(shape_or_layer):
        if said := [key for key, value in options.items() if key != "input_size" and value != DEFAULTS[key]]:
            raise FanError(
                f"{said[0]}= comes from the layer itself; with a layer only input_size= and weight= may be given."
            )
        options = options | read_layer(shape_or_layer, name)
        shape = options.pop("shape")
    elif name is not None:
        raise FanError(f"weight={name!r} chooses a weight of a layer; a shape has just one.")
    else:
        shape = getattr(shape_or_layer, "shape", shape_or_layer)
    shape = _checked_shape(shape)
    roles = _roles(shape, options)
    inputs, outputs = roles.inputs, _divide(roles.outputs, options["parts"], "parts", shape)
    if options["transposed"]:
        inputs = _divide(inputs, options["groups"], "groups", shape)
    else:
        outputs = _divide(outputs, options["groups"], "groups", shape)
    return Weight(inputs, outputs, _axes(roles.kernel, options))


def _roles(shape: tuple[int, ...], options: dict[str, Any]) -> Roles:
    if options["layout"] is not None and options["einsum"] is not None:
        raise FanError("layout= and einsum= both say what the axes are. Give one of them.")
    if options["einsum"] is not None:
        return from_einsum(shape, options["einsum"])
    if options["layout"] is not None:
        return from_layout(shape, options["layout"])
    return from_torch(shape, transposed=options["transposed"])


def _axes(kernel: tuple[int, ...], options: dict[str, Any]) -> tuple[Axis, ...]:
    """One Axis for each spatial axis, every setting spread over them and checked."""
    count, mode = len(kernel), options["padding_mode"]
    if mode not in FILLINGS:
        raise FanError(f"padding_mode={mode!r} is unknown. Choose one of {', '.join(FILLINGS)}.")
    if options["transposed"] and mode != "zeros":
        raise FanError(f"padding_mode={mode!r}: a transposed convolution pads with zeros only.")
    strides, dilations = _spread_over(options, "stride", count, 1), _spread_over(options, "dilation", count, 1)
    extra = _spread_over(options, "output_padding", count, 0)
    sizes = (None,) * count if options["input_size"] is None else _spread_over(options, "input_size", count, 1)
    axes = []
    for i, taps in enumerate(kernel):
        left, right = _padding(options["padding"], i, count, taps, strides[i], dilations[i], sizes[i])
        if (
            mode in ("reflect", "circular")
            and sizes[i] is not None
            and max(left, right) >= (sizes[i] or 0) + (mode == "circular")
        ):
            raise FanError(
                f"padding={options['padding']!r} with padding_mode={mode!r} is wider than the map ({sizes[i]} positions)."
            )
        axes.append(
            Axis(taps, strides[i], dilations[i], left, right, extra[i], sizes[i], mode, bool(options["transposed"]))
        )
    return tuple(axes)


def _padding(
    padding: Any, i: int, count: int, taps: int, stride: int, dilation: int, size: int | None
) -> tuple[int, int]:
    """Return the padding before and after along axis i."""
    if padding == "valid":
        return 0, 0
    if padding == "same":  # ceil(n/s) outputs, the odd one of the padding after (TensorFlow's rule; torch's for s = 1)
        outputs = -(-(size or 0) // stride)
        total = max((outputs - 1) * stride + dilation * (taps - 1) + 1 - (size or 0), 0)
        return total // 2, total - total // 2
    if isinstance(padding, str):
        raise FanError(f"padding={padding!r} is unknown. Give numbers, or one of same, valid.")
    if isinstance(padding, (tuple, list)) and len(padding) == count and isinstance(padding[i], (tuple, list)):
        left, right = (_integer("padding", side, 0) for side in padding[i])
        return left, right
    each = _spread_over({"padding": padding}, "padding", count, 0)[i]
    return each, each


def _spread_over(options: dict[str, Any], name: str, count: int, least: int) -> tuple[int, ...]:
    value = options[name]
    if isinstance(value, (tuple, list)):
        if len(value) not in (1, count):
            raise FanError(f"{name}={value!r} has {len(value)} entries, but the kernel has {count} spatial axes.")
        each = tuple(_integer(name, entry, least) for entry in value)
        return each * count if len(each) == 1 else each
    return (_integer(name, value, least),) * count


def _checked_shape(shape: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(_integer("shape", size, 0) for size in shape)
    except TypeError:
        raise FanError(f"{shape!r} is no shape. Give a tuple of sizes, an array or a layer.") from None
    if len(sizes) < 2:
        raise FanError(
            f"a weight needs at least 2 axes (out, in, *kernel), got shape {sizes}. "
            "Biases and norm gains have no fan; give them a constant."
        )
    if 0 in sizes:
        raise FanError(
            f"shape {sizes} has no elements. Is it the shape of a parameter that lives elsewhere (ZeRO-3, a lazy module)?"
        )
    return sizes


def _divide(size: int, into: Any, name: str, shape: tuple[int, ...]) -> int:
    count = _integer(name, into, 1)
    if size % count:
        raise FanError(f"{name}={count} does not divide {size} of shape {shape}.")
    return size // count


def _integer(name: str, value: Any, least: int) -> int:
    try:
        number = index(value)
    except TypeError:
        raise FanError(f"{name}={value!r} is not a whole number.") from None
    if isinstance(value, bool) or number < least:
        raise FanError(f"{name}={value!r} is not a whole number ≥ {least}.")
    return number


DEFAULTS: dict[str, Any] = {
    "groups": 1,
    "transposed": False,
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "output_padding": 0,
    "padding_mode": "zeros",
    "input_size": None,
    "layout": None,
    "einsum": None,
    "parts": 1,
    "weight": None,
}
