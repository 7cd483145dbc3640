"""What an op that refused its arguments would have taken, and what else a failed forward pass asks its reader to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

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
    if isinstance(error, OSError):
        return (
            "The model opens a file while it runs: let that path exist from here, or load the file in the constructor."
        )
    if isinstance(error, ImportError):
        return "Install what it imports."
    if isinstance(error, NotImplementedError) and "::" in failed:
        name = failed.partition("(")[0]
        return f"Give the op shapes, @torch.library.register_fake({name!r}), and it is read without being run."
    return f"{taken} {PLAIN}" if taken else PLAIN


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


AXES = {1: "length", 2: "height, width", 3: "depth, height, width"}  # by rank of the convolution

HINTS: Mapping[str, Callable[[dict[str, Any]], str]] = MappingProxyType(
    {
        "linear": _linear,
        **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), _convolution),
        **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _convolution),
        "embedding": _embedding,
    }
)
