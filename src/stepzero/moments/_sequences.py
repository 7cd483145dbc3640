"""Where the steps of sequences lie: along an axis, or packed row by row; and the rules that pack and unpack them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._moves import trimmed
from stepzero.moments._signal import Moments, Signal, lean, ranked
from stepzero.network import Ref

Array = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Layout:
    """The step of each row of a signal, for a reader from either end."""

    axis: int  # of the rows
    steps: int  # of the longest sequence
    ways: tuple[Places, Places]  # for each row, its step from the start and from the end of its own sequence
    lengths: Places  # of each sequence, or one for all

    @classmethod
    def along(cls, axis: int, steps: int) -> Layout:
        """Sequences of one length, whose steps are an axis."""
        rows = np.arange(steps)
        return cls(axis, steps, (rows, rows[::-1]), np.array([steps]))

    @classmethod
    def packed(cls, sizes: Sequence[int]) -> Layout:
        """Sequences that are packed: as many rows for each step as sequences are that long."""
        steps = np.repeat(np.arange(len(sizes)), sizes)
        lengths = np.array([sum(size > n for size in sizes) for n in range(sizes[0])])
        owners = np.concatenate([np.arange(size) for size in sizes])
        alike = lengths[:1] if np.ptp(lengths) == 0 else lengths
        return cls(0, len(sizes), (steps, lengths[owners] - 1 - steps), alike)

    @classmethod
    def endless(cls, rows: int, steps: int) -> Layout:
        """Packed sequences of unknown lengths: each row is taken as far from either end."""
        far = np.full(rows, steps - 1)
        return cls(0, steps, (far, np.zeros_like(far)), np.array([steps]))

    def read(self, x: Signal, t: Tensor, way: int) -> Array:
        """Average a lean moment over all else, step by step."""
        t = ranked(t.detach(), len(x.shape))
        rows = t.mean(dim=[d for d in range(t.dim()) if d != self.axis]).expand(x.shape[self.axis]).numpy()
        counts = np.bincount(self.ways[way], minlength=self.steps)
        sums = np.bincount(self.ways[way], weights=rows, minlength=self.steps)
        return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), rows.mean()))

    def over_rows(self, values: Array, way: int) -> Array:
        """Return what each row has of numbers for each step."""
        return np.asarray(values[self.ways[way]])

    def of_sequence(self, values: Array) -> Array:
        """Return what each row has of numbers for each length."""
        return np.asarray(values[self.ways[0] + self.ways[1]])

    def tensor(self, rows: Array, rank: int) -> Tensor:
        """Return numbers for each row as a lean tensor."""
        t = torch.from_numpy(np.ascontiguousarray(rows))
        if float(np.ptp(rows)) <= 1e-9 * float(np.abs(rows).max()):
            return t.mean().reshape((1,) * rank)
        return t.reshape([-1 if d == self.axis else 1 for d in range(rank)])

    def last(self, values: Array) -> Array:
        """Return what each sequence has at its end."""
        return np.asarray(values[self.lengths - 1])


def sizes_of(call: Call) -> list[int] | None:
    """Return how many sequences take part in each step, if that is known."""
    ref = call.node.arguments["batch_sizes"]
    known = call.graph.values[ref.id].known if isinstance(ref, Ref) else None
    return None if known is None else [int(n) for n in known]


def packed(call: Call) -> Signal | tuple[Signal | None, ...]:
    """Rows of all sequences that reach a step, step after step; another place is another step of the same sequence."""
    x = call.operand("input")
    time = 1 if call.argument("batch_first") else 0
    axes = [x.roles[1 - time], x.roles[time]]

    def run(t: Tensor) -> Tensor:
        t = ranked(t, len(x.shape))
        if t.shape[0] == t.shape[1] == 1:
            return t[0]
        return trimmed(call.run(input=t.expand(*x.shape[:2], *t.shape[2:]))[0])

    m, tangent = x.mapped(lambda m: (_exchanged(m) if R.is_all(axes[1], "batch") else m).each(run))
    rows = call.shape[0]
    steps = len(call.graph.values[call.node.outputs[1]].shape) and call.shapes[1][0]
    whole = rows == steps * (rows // steps)
    roles = (*R.single(steps, "position"), *R.single(rows // steps, "batch")) if whole else R.single(rows, "position")
    return Signal(call.shape, (roles, *x.roles[2:]), m, tangent), None


def _exchanged(m: Moments) -> Moments:
    """What was taken for inputs are steps, what was taken for places are sequences."""
    return m._replace(near=m.across, elsewhere=m.across, across=m.elsewhere)


def unpacked(call: Call) -> Signal | tuple[Signal | None, ...]:
    """Packed rows go back into a map of sequences and steps; what sequences leave empty holds the padding value."""
    x = call.operand("data")
    sizes, value = sizes_of(call), float(call.argument("padding_value") or 0.0)
    if sizes is None:
        raise NoRuleError(f"{call.op} (at {call.where}) needs the lengths of the sequences, which depend on data")
    time = 1 if call.argument("batch_first") else 0
    whole = min(sizes) == sizes[0] and call.shape[time] == len(sizes)

    def run(t: Tensor, padding: float = 0.0) -> Tensor:
        t = ranked(t, len(x.shape))
        if whole and t.shape[0] == 1:
            return t[None]
        rows = t.expand(x.shape[0], *t.shape[1:]).contiguous()
        return trimmed(call.run(data=rows, padding_value=padding)[0])

    ones = torch.ones((1,) * len(x.shape), dtype=torch.float64)
    share = _shares(run(ones).expand(*call.shape[:2], *(1,) * (len(call.shape) - 2)), time)
    m = Moments(
        run(x.mean, value), *(run(t) * s + value**2 * (1 - s) for t, s in zip(x.moments[1:], share, strict=True))
    )
    change = x.tangent and Moments(
        run(x.tangent.mean), *(run(t) * s for t, s in zip(x.tangent[1:], share, strict=True))
    )
    kinds: tuple[R.Role, R.Role] = ("position", "batch") if time == 0 else ("batch", "position")
    roles = tuple(R.single(n, role) for n, role in zip(call.shape, kinds, strict=False))
    return Signal(call.shape, (*roles, *x.roles[1:]), m.each(trimmed), change and change.each(lean)), None


def _shares(there: Tensor, time: int) -> tuple[Tensor, ...]:
    """The share of partners that hold a signal, for each kind of pair, where an element does (0 where not)."""
    steps, inputs = there.shape[time], there.shape[1 - time]
    own, at_once = there.sum(time, keepdim=True), there.sum(1 - time, keepdim=True)
    every = there.sum((0, 1), keepdim=True)

    def share(partners: Tensor, most: int) -> Tensor:
        return there * partners / most if most else there

    beside = torch.zeros_like(there)
    first, rest = there.narrow(time, 0, steps - 1), there.narrow(time, 1, steps - 1)
    beside.narrow(time, 0, steps - 1).add_(rest)
    beside.narrow(time, 1, steps - 1).add_(first)
    near = torch.full_like(there, 2.0)
    near.narrow(time, 0, 1).fill_(1.0)
    near.narrow(time, steps - 1, 1).fill_(1.0)
    apart = share(every - own - at_once + there, (steps - 1) * (inputs - 1))
    return there, there * beside / near, share(own - there, steps - 1), share(at_once - there, inputs - 1), apart


PACKING: dict[str, Rule] = {"_pack_padded_sequence": packed, "_pad_packed_sequence": unpacked}
