"""Shapes for ops that torch cannot run on meta: what it refuses, what depends on numbers, what it unrolls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from stepzero.network._known import Known, Shadows
from stepzero.network._ops import Call
from stepzero.network._remembered import run_once
from stepzero.network._walk import replace_tensors

META = torch.device("meta")

Rule = Callable[[dict[str, Any]], Any]


def run_on_meta(call: Call, shadows: Shadows | None, known: Known) -> Any:
    """Run an op on meta, or say by other means what shapes it makes."""
    rule = RULES.get(call.op)
    if rule is not None and not call.written:
        made = rule(call.arguments | {"known": known})
        if made is not None:
            return made
    if shadows is not None and _sized_by_numbers(call):
        return stand_ins(shadows.run(call.func))
    try:
        if call.op in ("index", "index_put"):
            return call.func(call.args[0], _masks_as_indices(call.args[1], known), *call.args[2:], **call.kwargs)
        return run_once(call)
    except (RuntimeError, NotImplementedError):
        if shadows is None or call.written:
            raise
        return stand_ins(shadows.run(call.func))


def _sized_by_numbers(call: Call) -> bool:
    """Say whether the shape depends on numbers; torch does not mark `where(condition)`, of which it makes `nonzero` later."""
    return torch.Tag.dynamic_output_shape in call.func.tags or (call.op == "where" and len(call.args) == 1)


def stand_ins(result: Any) -> Any:
    """Return `result` with each tensor replaced by one on meta of the same geometry."""
    return replace_tensors(stand_in, result)


def stand_in(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor on meta with the shape, strides and type of `tensor`."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _masks_as_indices(indices: Any, known: Known) -> Any:
    """Replace boolean masks whose numbers are known by index tensors of the right length."""
    replaced: list[Any] = []
    for index in indices:
        shadow = None if index is None or index.dtype not in (torch.bool, torch.uint8) else known.get(index)
        if shadow is None:
            replaced.append(index)
        else:
            replaced += [stand_in(part) for part in shadow.tensor.nonzero(as_tuple=True)]
    return replaced


def _linear(a: dict[str, Any]) -> Any:
    x, weight = a["input"], a["weight"]
    if weight.dim() != 2 or x.shape[-1:] != weight.shape[1:] or x.dtype != weight.dtype:
        return None  # torch has the right words
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _conv_transpose(a: dict[str, Any]) -> None:
    """Refuse what a real run would: on meta nothing looks at the channels."""
    x, weight = a["input"], a["weight"]
    have, axis = x.shape, x.dim() - weight.dim() + 1  # without a batch axis, channels come first
    if axis not in (0, 1) or have[axis] != weight.shape[0]:
        raise RuntimeError(
            f"a weight of shape {tuple(weight.shape)} takes {weight.shape[0]} channels, got {tuple(have)}"
        )


def _lstm(a: dict[str, Any]) -> Any:
    hidden, cell = a["hx"]
    return _sequence(a, hidden), torch.empty_like(hidden), torch.empty_like(cell)


def _rnn(a: dict[str, Any]) -> Any:
    return _sequence(a, a["hx"]), torch.empty_like(a["hx"])


def _sequence(a: dict[str, Any], hidden: torch.Tensor) -> torch.Tensor:
    steps = a["input"] if "input" in a else a["data"]
    return torch.empty(
        *steps.shape[:-1], hidden.shape[-1] * (2 if a["bidirectional"] else 1), dtype=steps.dtype, device="meta"
    )


def _pack(a: dict[str, Any]) -> Any:
    """Return rows and the number of sequences at each step, where the lengths of the sequences are known."""
    x, shadow = a["input"], a["known"].get(a["lengths"])
    if shadow is None:
        return None
    short = torch.empty(x.shape[:2], dtype=x.dtype)
    rows, sizes = torch.ops.aten._pack_padded_sequence(short, shadow.tensor, a["batch_first"])
    return x.new_empty((rows.shape[0], *x.shape[2:])), _numbered(a["known"], sizes, shadow.certain)


def _unpack(a: dict[str, Any]) -> Any:
    data, shadow = a["data"], a["known"].get(a["batch_sizes"])
    if shadow is None:
        return None
    short = torch.empty(data.shape[:1], dtype=data.dtype)
    whole, lengths = torch.ops.aten._pad_packed_sequence(
        short, shadow.tensor, a["batch_first"], a["padding_value"], a["total_length"]
    )
    return data.new_empty((*whole.shape, *data.shape[1:])), _numbered(a["known"], lengths, shadow.certain)


def _numbered(known: Known, numbers: torch.Tensor, certain: bool) -> torch.Tensor:
    """Return a tensor that has numbers, although the op's other results have none; on the CPU, where torch asks for them."""
    home = numbers.clone()
    known.put(home, numbers, certain=certain)
    return home


def _grouped_mm(a: dict[str, Any]) -> Any:
    """(M, K) @ (G, K, N) → (M, N); (M, K) @ (K, N) with groups along K → (G, M, N); (G, M, K) @ (G, K, N) → bmm."""
    left, right = a["self"], a["mat2"]
    groups = () if a["offs"] is None else tuple(a["offs"].shape)
    lead = {(2, 3): (), (2, 2): groups, (3, 3): tuple(left.shape[:1]), (3, 2): ()}[(left.dim(), right.dim())]
    return left.new_empty((*lead, left.shape[-2], right.shape[-1]), dtype=a["out_dtype"] or left.dtype)


def _nms(a: dict[str, Any]) -> Any:
    return a["dets"].new_empty(a["dets"].shape[:1], dtype=torch.int64)  # as if every box were kept


def _masked_select(a: dict[str, Any]) -> Any:
    if a["known"].get(a["mask"]) is not None:
        kept = a["known"].get(a["mask"]).tensor.expand(torch.broadcast_shapes(a["self"].shape, a["mask"].shape)).sum()
        return a["self"].new_empty(int(kept))
    return a["self"].new_empty(torch.broadcast_shapes(a["self"].shape, a["mask"].shape).numel())


def _unique2(a: dict[str, Any]) -> Any:
    """Return values, places and counts as if no two elements were alike, unless their numbers are known; what was not asked for is empty."""
    x = a["self"]
    if a["known"].get(x) is not None:
        return None
    places, counts = (x.numel() if a[name] else 0 for name in ("return_inverse", "return_counts"))
    index = x.new_empty(places, dtype=torch.int64).reshape(x.shape if places else (0,))
    return x.new_empty(x.numel()), index, x.new_empty(counts, dtype=torch.int64)


def _repeat_interleave(a: dict[str, Any]) -> Any:
    """Return the repeated tensor when the numbers of repetitions are known."""
    repeats = a["repeats"]
    shadow = a["known"].get(repeats) if isinstance(repeats, torch.Tensor) else None
    if shadow is None or "self" not in a:
        return None
    flat = a["self"].flatten() if a["dim"] is None else a["self"]
    dim = 0 if a["dim"] is None else a["dim"]
    shape = list(flat.shape)
    total = int(shadow.tensor.sum()) * (shape[dim] if shadow.tensor.numel() == 1 else 1)
    shape[dim] = total
    return flat.new_empty(shape)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        # torch's way on meta imports its compiler first (1.5 s)
        "linear": _linear,
        # meta does not look at the channels
        **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _conv_transpose),
        # meta unrolls time
        "lstm": _lstm,
        "gru": _rnn,
        "rnn_tanh": _rnn,
        "rnn_relu": _rnn,
        # meta has no lengths
        "_pack_padded_sequence": _pack,
        "_pad_packed_sequence": _unpack,
        # meta refuses other types than bfloat16
        "_grouped_mm": _grouped_mm,
        # the shape depends on numbers
        "torchvision::nms": _nms,
        "masked_select": _masked_select,
        "_unique2": _unique2,
        "repeat_interleave": _repeat_interleave,
    }
)
