"""The memory of a tensor as a NumPy array, and the reasons why it may not be written."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]

# dtypes that values can be drawn in, by the name that streams know
FORMATS = {
    dtype: str(dtype).removeprefix("torch.")
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128)
}


def as_array(tensor: torch.Tensor) -> Array:
    """Return a NumPy array over the memory of a CPU tensor, of the same strides; bfloat16 as its 16 bits."""
    bare = tensor.detach()
    if bare.dtype == torch.bfloat16:
        return bare.view(torch.int16).numpy().view(np.uint16)
    found: Array = bare.numpy()
    return found


def overlaps_itself(tensor: torch.Tensor) -> bool:
    """Say whether two elements of a strided tensor may share memory (expanded or windowed views)."""
    steps = sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1)
    reach = 0  # of the axes with smaller strides
    for stride, size in steps if tensor.numel() else ():
        if stride <= reach:
            return True
        reach += stride * (size - 1)
    return False


def first_overlap(tensors: Iterable[tuple[str, torch.Tensor]]) -> tuple[str, str] | None:
    """Return the names of two CPU tensors that share memory, or None."""
    spans: list[tuple[int, int, str, Array]] = []
    for name, tensor in tensors:
        if tensor.numel():
            last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
            low = tensor.data_ptr()
            spans.append((low, low + (last + 1) * tensor.element_size(), name, as_array(tensor)))
    spans.sort(key=lambda span: span[:2])
    open_spans: list[tuple[int, int, str, Array]] = []
    for span in spans:
        open_spans = [before for before in open_spans if before[1] > span[0]]
        for _, _, name, array in open_spans:
            if np.shares_memory(array, span[3]):
                return name, span[2]
        open_spans.append(span)
    return None


class ReadOnlyMemory:
    """Address ranges that the process may not write, as Linux lists them; empty on other systems."""

    def __init__(self, maps: Path = Path("/proc/self/maps")) -> None:
        """Read the list once."""
        self.starts: list[int] = []
        self.ends: list[int] = []
        try:
            lines = maps.read_text().splitlines()
        except OSError:
            lines = []
        for line in lines:
            span, mode = line.split()[:2]
            if "w" not in mode:
                low, high = (int(bound, 16) for bound in span.split("-"))
                self.starts.append(low)
                self.ends.append(high)

    def holds(self, tensor: torch.Tensor) -> bool:
        """Say whether the tensor begins in memory that cannot be written."""
        at = bisect.bisect_right(self.starts, tensor.data_ptr()) - 1
        return at >= 0 and tensor.data_ptr() < self.ends[at]
