"""One axis of a convolution as a matrix: a uniform kernel runs along each axis by itself, and any other as a sum of such products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SHORT = 256  # axes up to this length are multiplied by a matrix, longer ones run through the op in one dimension
BLOCK = 64  # rows of a banded matrix that are multiplied at once
NEGLIGIBLE = 1e-13  # share of a kernel's largest singular value


@dataclass(frozen=True)
class Side:
    """A convolution along one axis: which inputs each output meets, tap by tap."""

    inputs: int
    outputs: int
    taps: int
    stride: int
    transposed: bool
    options: tuple[tuple[str, Any], ...] = field(default=())  # stride, padding, dilation … of this axis

    @property
    def trivial(self) -> bool:
        """Whether each output meets the input at its own place, and no other."""
        return self.taps == self.stride == 1 and self.inputs == self.outputs and not self.transposed

    def op(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Run the op along the last axis of (n, 1, inputs)."""
        y: Tensor = (F.conv_transpose1d if self.transposed else F.conv1d)(x, kernel, **dict(self.options))
        return y

    @cached_property
    def hits(self) -> Tensor:
        """Return 1 where a tap meets an input that an output reads, shape (taps, inputs)."""
        with torch.enable_grad():
            x = torch.zeros(self.taps, 1, self.inputs, dtype=torch.float64, requires_grad=True)
            y = self.op(x, self._each_tap())
            (counts,) = torch.autograd.grad(torch.einsum("tto->", y), x)
        return counts[:, 0]

    def along(self, t: Tensor, d: int, kernel: Tensor) -> Tensor:
        """Run a kernel of this many taps along axis d."""
        if max(self.inputs, self.outputs) > SHORT:
            y = self.op(t.movedim(d, -1).reshape(-1, 1, self.inputs), kernel.reshape(1, 1, -1))
            return y.reshape(*t.movedim(d, -1).shape[:-1], self.outputs).movedim(-1, d)
        return multiplied(t, d, self.matrix(kernel))

    def matrix(self, kernel: Tensor) -> Tensor:
        """Return the kernel as a matrix, shape (outputs, inputs)."""
        if bool((kernel == kernel[0]).all()):
            return self._uniform if kernel[0] == 1.0 else self._uniform * kernel[0]
        return torch.einsum("t,toi->oi", kernel, self._places)

    def beside(self, t: Tensor, d: int, kernel: Tensor) -> Tensor:
        """Sum, over the neighbours that an output has along axis d, what the taps valid at both would meet."""
        if max(self.inputs, self.outputs) <= SHORT:
            matrix = self.matrix(kernel)
            return multiplied(
                t, d, torch.stack([seen[:, None] * matrix * valid for valid, seen in self._neighbours]).sum(0)
            )
        along = [-1 if i == d % t.dim() else 1 for i in range(t.dim())]
        parts = [
            self.along(t * valid.reshape(along), d, kernel) * seen.reshape(along) for valid, seen in self._neighbours
        ]
        return parts[0] + parts[1]

    @cached_property
    def neighbours(self) -> Tensor:
        """How many neighbours each output has."""
        return self._neighbours[0][1] + self._neighbours[1][1]

    @cached_property
    def _neighbours(self) -> list[tuple[Tensor, Tensor]]:
        """For the neighbour ahead and behind: the inputs that are valid at both, and the outputs that have one."""
        valid, seen = torch.zeros(self.inputs, dtype=torch.float64), torch.zeros(self.outputs, dtype=torch.float64)
        valid[: max(0, self.inputs - self.stride)] = 1.0
        seen[: self.outputs - 1] = 1.0
        return [(valid, seen), (valid.flip(0), seen.flip(0))]

    @cached_property
    def _places(self) -> Tensor:
        """One matrix for each tap, shape (taps, outputs, inputs)."""
        unit = torch.eye(self.inputs, dtype=torch.float64)[:, None]
        return self.op(unit, self._each_tap()).permute(1, 2, 0).contiguous()

    @cached_property
    def _uniform(self) -> Tensor:
        return self._places.sum(0)

    def _each_tap(self) -> Tensor:
        unit = torch.eye(self.taps, dtype=torch.float64)
        return unit[None] if self.transposed else unit[:, None]


@lru_cache(maxsize=128)
def side_of(side: Side) -> Side:
    """Return the one copy of a side that keeps its matrices."""
    return side


def products(kernel: Tensor) -> list[tuple[Tensor, ...]]:
    """Return kernels for each axis whose products add up to a kernel: one product if it is uniform."""
    if kernel.dim() == 1:
        return [(kernel,)]
    if bool((kernel == kernel.reshape(-1)[0]).all()):
        ones = [torch.ones(n, dtype=torch.float64) for n in kernel.shape]
        return [(ones[0] * kernel.reshape(-1)[0], *ones[1:])]
    u, s, v = torch.linalg.svd(kernel.reshape(kernel.shape[0], -1), full_matrices=False)
    terms = []
    for i in range(int((s > NEGLIGIBLE * s[0]).sum())):
        terms += [(u[:, i] * s[i], *rest) for rest in products(v[i].reshape(kernel.shape[1:]))]
    return terms


def multiplied(t: Tensor, d: int, matrix: Tensor) -> Tensor:
    """Multiply axis d by a banded matrix."""
    if min(matrix.shape) <= 2 * BLOCK and d >= -2:
        return t @ matrix.T if d == -1 else matrix @ t
    y: Tensor = _Along.apply(t.transpose(d, -1), matrix)  # type: ignore[no-untyped-call]
    return y.transpose(d, -1)


class _Along(torch.autograd.Function):
    """t ↦ t·Aᵀ along the last axis, by blocks of A's rows and the columns that they use."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, matrix: Tensor) -> Tensor:
        """Multiply."""
        ctx.matrix = matrix
        return _banded(t, matrix)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Multiply by the transpose."""
        return _banded(grads[0], ctx.matrix.T), None


def _banded(t: Tensor, matrix: Tensor) -> Tensor:
    rows, columns = matrix.shape
    if rows <= 2 * BLOCK or columns <= 2 * BLOCK:
        return t @ matrix.T
    used = [_columns(matrix[start : start + BLOCK]) for start in range(0, rows, BLOCK)]
    blocks = [t[..., cut] @ matrix[i * BLOCK : (i + 1) * BLOCK, cut].T for i, cut in enumerate(used)]
    return torch.cat(blocks, dim=-1)


def _columns(rows: Tensor) -> slice:
    """The columns between the first and the last that some row uses."""
    used: Sequence[int] = rows.any(0).nonzero().flatten().tolist()
    return slice(used[0], used[-1] + 1) if used else slice(0, 1)
