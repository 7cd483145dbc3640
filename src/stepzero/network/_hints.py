"""What an op that refused its arguments would have taken, and what else a failed forward pass asks its reader to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from stepzero.network._ops import Call

PLAIN = "Pass inputs that model(...) itself accepts."


def hint(call: Call) -> str:
    """Return in words what this op takes, where that can be told from its weights; else nothing."""
    tell = HINTS.get(call.op)
    return tell(call.arguments) if tell is not None else ""


def advice(error: Exception, failed: str, taken: str) -> str:
    """Return what to do about a forward pass that failed on real tensors too.

    Args:
        error: What it raised.
        failed: The op that raised, in words, or nothing where no op did.
        taken: What that op would have taken, or nothing.
    """
    if isinstance(error, NotImplementedError) and "::" in failed:
        name = failed.partition("(")[0]
        return f"Give the op shapes, @torch.library.register_fake({name!r}), and it is read without being run."
    for kinds, words, told in ADVICE:
        if isinstance(error, kinds) and (not words or any(word in str(error) for word in words)):
            return told
    return f"{taken} {PLAIN}" if taken else PLAIN


def without_batch(model: nn.Module, shapes: Iterable[tuple[int, ...]]) -> str:
    """Return what to pass in place of an input that lacks its batch axis, as a sentence; nothing where none does."""
    layers = [m for m in model.modules() if isinstance(m, _ConvNd) and not m.transposed]
    for shape in shapes:
        if layers and len(shape) == layers[0].weight.dim() - 1 and shape[0] == layers[0].in_channels:
            return f" The first axis counts inputs: pass {(1, *shape)}."
    return ""


def _linear(a: dict[str, Any]) -> str:
    return f"Its last axis has to be {a['weight'].shape[-1]} wide, of type {_type(a['weight'])}."


def _convolution(a: dict[str, Any]) -> str:
    weight, groups = a["weight"], a.get("groups", 1)
    channels = weight.shape[0] if _transposed(a) else weight.shape[1] * groups
    return f"It takes (batch, {channels}, {AXES[weight.dim() - 2]}) of type {_type(weight)}."


def _transposed(a: dict[str, Any]) -> bool:
    return bool(a.get("transposed")) or "output_padding" in a


def _embedding(a: dict[str, Any]) -> str:
    return f"It takes whole numbers below {a['weight'].shape[0]}, such as the text form 1x16:int64."


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


OWN = "That is the model's own error: call model(...) on tensors of these shapes, and mend it there first."
GPU = ("CUDA", "cuda", "NVIDIA", "ROCm")

# Errors, words in them (one is enough), and what to do; the first that fits speaks.
ADVICE: tuple[tuple[tuple[type[Exception], ...], tuple[str, ...], str], ...] = (
    (
        (OSError,),
        (),
        "The model opens a file while it runs: let that path exist from here, or load the file in the constructor.",
    ),
    ((ImportError,), (), "Install what it imports."),
    ((Exception,), GPU, "It asks for a GPU: let it follow its input, x.device, in place of a fixed device."),
    ((TypeError,), ("numpy.ndarray",), "Pass torch.from_numpy(array)."),
    (
        (TypeError,),
        ("not tuple",),
        "A module before it returns a tuple, as recurrent layers do: pass on the part that it takes.",
    ),
    ((RuntimeError,), ("NestedTensor",), "Nested tensors cannot be followed: pad them, with a mask."),
    ((AttributeError, NameError, RecursionError, KeyError, ZeroDivisionError), (), OWN),
)

AXES = {1: "length", 2: "height, width", 3: "depth, height, width"}  # by rank of the convolution

HINTS: Mapping[str, Callable[[dict[str, Any]], str]] = MappingProxyType(
    {
        "linear": _linear,
        **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), _convolution),
        **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _convolution),
        "embedding": _embedding,
    }
)
