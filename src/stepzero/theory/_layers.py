"""Which weight a layer has, and how its axes and its geometry read: torch's layers and GPT-2's, without importing torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from stepzero.errors import FanError

Options = dict[str, Any]


def is_layer(candidate: Any) -> bool:
    """Return True for a layer of a network, as opposed to a shape, an array or a tensor."""
    return hasattr(candidate, "forward") or hasattr(candidate, "kernel_size")


def read_layer(layer: Any, weight: str | None) -> Options:
    """Return the arguments of `fans` that describe a layer's weight.

    Args:
        layer: A layer, by its class's name.
        weight: Which of its weights, if it has several; None for the one that meets the input.

    Raises:
        FanError: if the layer is of no known kind, has no such weight, or does not know its shape yet.
    """
    for kind in type(layer).__mro__:
        if kind.__name__ in READERS:
            return READERS[kind.__name__](layer, weight)
    raise FanError(
        f"{type(layer).__name__} is no layer with a known layout. "
        f"Give its weight's shape, with layout= or einsum=. Known are {KNOWN}."
    )


def layer_weights(layer: Any) -> tuple[str, ...]:
    """Return the names of a layer's own weight matrices; of a layer of no known kind, its `weight` if it has one."""
    for kind in type(layer).__mro__:
        if kind.__name__ in NAMES:
            return NAMES[kind.__name__](layer)
    return ("weight",) if getattr(layer, "weight", None) is not None else ()


def _linear(layer: Any, weight: str | None) -> Options:
    return {"shape": _shape(layer, weight, ("weight",))}


def _conv(layer: Any, weight: str | None) -> Options:
    _shape(layer, weight, ("weight",))
    grouped = (layer.in_channels, layer.out_channels // layer.groups)
    plain = (layer.out_channels, layer.in_channels // layer.groups)
    return {
        "shape": (*(grouped if layer.transposed else plain), *layer.kernel_size),
        "groups": layer.groups,
        "transposed": layer.transposed,
        "stride": layer.stride,
        # timm's *Same layers pad by the map's size in forward, and keep padding=0 here
        "padding": "same" if type(layer).__name__.endswith("Same") else layer.padding,
        "dilation": layer.dilation,
        "output_padding": layer.output_padding if layer.transposed else 0,
        "padding_mode": layer.padding_mode,
    }


def _gpt2(layer: Any, weight: str | None) -> Options:
    return {"shape": _shape(layer, weight, ("weight",)), "layout": "IO"}


def _bilinear(layer: Any, weight: str | None) -> Options:
    """y_o = Σ_ij x_i W_oij x'_j: in₁·in₂ products reach an output; backward, x_i feeds out·in₂ of them (for E[x'²] = 1)."""
    return {"shape": _shape(layer, weight, ("weight",))}  # the second input is read like a kernel


def _embedding(layer: Any, weight: str | None) -> Options:
    """A look-up is a product with a one-hot vector: one weight reaches each output, and one input feeds a whole row."""
    _, width = _shape(layer, weight, ("weight",))
    return {"shape": (width, 1)}


def _attention(layer: Any, weight: str | None) -> Options:
    held = _attention_names(layer)
    shape = _shape(layer, weight, held)
    packed = (weight or held[0]) == "in_proj_weight"
    return {"shape": shape, "parts": 3 if packed else 1}


def _recurrent(layer: Any, weight: str | None) -> Options:
    shape = _shape(layer, weight, _recurrent_names(layer))
    projection = (weight or "").startswith("weight_hr")
    return {"shape": shape, "parts": 1 if projection else shape[0] // layer.hidden_size}


def _attention_names(layer: Any) -> tuple[str, ...]:
    names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight")
    return tuple(name for name in names if _get(layer, name) is not None)


def _recurrent_names(layer: Any) -> tuple[str, ...]:
    return tuple(name for name, _ in layer.named_parameters(recurse=False) if name.startswith("weight"))


def _shape(layer: Any, weight: str | None, names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the shape of the named weight; the first of `names` if none is named."""
    name = weight or names[0]
    if name not in names:
        raise FanError(f"{type(layer).__name__} has no weight {name!r}. Choose one of {', '.join(names)}.")
    held = _get(layer, name)
    if held is None or type(held).__name__ == "UninitializedParameter":
        raise FanError(
            f"{type(layer).__name__} does not know the shape of its {name} yet. Run it once, or give its sizes."
        )
    return tuple(int(size) for size in held.shape)


def _get(layer: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        layer = getattr(layer, part, None)
    return layer


KNOWN = "Linear, Bilinear, Embedding, every Conv and ConvTranspose, RNN, LSTM, GRU and their cells, MultiheadAttention, GPT-2's Conv1D"

READERS: Mapping[str, Callable[[Any, str | None], Options]] = MappingProxyType(
    {
        "Linear": _linear,
        "_ConvNd": _conv,
        "Conv1D": _gpt2,  # transformers.pytorch_utils: weight [in, out]
        "Bilinear": _bilinear,
        "Embedding": _embedding,
        "MultiheadAttention": _attention,
        "RNNBase": _recurrent,
        "RNNCellBase": _recurrent,
    }
)

# Layers with several weights, or with another name for the one.
NAMES: Mapping[str, Callable[[Any], tuple[str, ...]]] = MappingProxyType(
    {
        "MultiheadAttention": _attention_names,
        "RNNBase": _recurrent_names,
        "RNNCellBase": _recurrent_names,
    }
)
