"""How a convolution of any kind meets positions: its own op on lean maps, with the channels folded away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stepzero.moments._meetings import Meetings, meetings
from stepzero.moments._sides import Side, products, side_of
from stepzero.moments._signal import ranked

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
Products = list[tuple[Tensor, ...]]  # kernels along each axis, whose products add up
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


class Geometry:
    """One convolution, as maps of (batch, channels, *space) tensors whose axes may have size 1.

    Borders, strides, dilation, groups and transposition come from running the op itself along each axis (`Side`).
    """

    def __init__(
        self, op: str, arguments: Mapping[str, Any], shape: Sequence[int], out: Sequence[int], taps: Tensor
    ) -> None:
        self.dims = len(shape) - 2
        self.transposed = op.startswith("conv_transpose") or bool(arguments.get("transposed"))
        self.shape, self.out = tuple(shape), tuple(out)
        self.space, self.out_space = self.shape[2:], self.out[2:]
        self.groups = int(arguments.get("groups", 1))
        stride = arguments["stride"]
        self.stride = [int(n) for n in (stride * self.dims if len(stride) == 1 else stride)]
        names = ["stride", "padding", "dilation"] + (["output_padding"] if self.transposed else [])
        self._options = {name: arguments[name] for name in names if name in arguments}
        self._op: Any = (TRANSPOSED if self.transposed else CONVOLUTIONS)[self.dims - 1]
        self._sides = [self._side(d, k) for d, k in enumerate(taps.shape[2:])]
        self._shared: dict[int, tuple[Tensor | None, Tensor, Tensor, Products]] = {}  # by profile
        self._seconds: dict[int, tuple[Tensor, Tensor]] = {}  # by x² map
        self.taps = taps  # (1, 1, *kernel): how much of the weight's variance each tap has, 1 on average
        self._kernel = products(taps[0, 0])
        self._trivial = all(side.trivial for side in self._sides)

    def _side(self, d: int, taps: int) -> Side:
        """The op along one axis."""
        options = {k: v if isinstance(v, str) else int(v[d % len(v)]) for k, v in self._options.items()}
        return side_of(
            Side(self.space[d], self.out_space[d], taps, self.stride[d], self.transposed, tuple(options.items()))
        )

    def given(self, t: Tensor, weight: Tensor) -> Tensor:
        """Run the op with a given weight on a map (no bias)."""
        t = ranked(t, len(self.shape))
        t = t.expand(t.shape[0], *self.shape[1:])
        y: Tensor = self._op(t, weight, groups=self.groups, **self._options)
        return y

    def variance(self, t: Tensor) -> Tensor:
        """Return the map of E[y²] for that of E[x²] and weights of variance 1."""
        if t.requires_grad:
            return self._run(self._folded(t), self._kernel)
        if id(t) not in self._seconds:
            self._seconds[id(t)] = t, self._run(self._folded(t), self._kernel)
        return self._seconds[id(t)][1]

    def fold(self, t: Tensor) -> Tensor:
        """Average the channels of each group, which an output meets alike: (B, C, *space) → (B, 1 or groups, *space)."""
        t = ranked(t, len(self.shape))
        if t.shape[1] == 1 or t.shape[1] == self.groups:
            return t
        t = t.unflatten(1, (self.groups, -1)).mean(2)
        alike = self.groups > 1 and not t.requires_grad and bool((t == t[:, :1]).all())
        return t[:, :1] if alike else t

    def _folded(self, t: Tensor) -> Tensor:
        """Sum channels within each group: (B, C, *space) → (B, 1 or groups, *space), positions written out."""
        t = self.fold(t) * (self.shape[1] // self.groups)
        return t.expand(*t.shape[:2], *self.space)

    def _run(self, t: Tensor, kernel: Products) -> Tensor:
        """Run a kernel over each folded channel, and unfold to the output's channels."""
        return self._unfolded(self._sum(t, kernel))

    def _sum(self, t: Tensor, kernel: Products, beside: int | None = None) -> Tensor:
        """Add the products of a kernel; along one axis the taps may be those that a neighbour has as well."""
        total = None
        for vectors in kernel:
            y = t
            for d, (side, vector) in enumerate(zip(self._sides, vectors, strict=True)):
                y = (side.beside if d == beside else side.along)(y, d - self.dims, vector)
            total = y if total is None else total + y
        assert total is not None
        return total

    def _unfolded(self, y: Tensor) -> Tensor:
        return y if y.shape[1] == 1 else y.repeat_interleave(self.out[1] // y.shape[1], dim=1)

    def beside(self, pair: Tensor) -> Tensor:
        """Return E[y y'] for the next output position: the taps valid at both, averaged over the neighbours.

        Neighbours of a strided transposed convolution use different taps, so they share nothing.
        """
        folded = self._folded(pair)
        if self._trivial:
            return self._unfolded(folded * self.taps.sum())
        apart = self.transposed and max(self.stride) > 1
        axes = [] if apart else [d for d in range(self.dims) if self.out_space[d] > 1]
        if not axes:
            return self._run(folded, self._kernel) * (0.0 if self.transposed else 1.0)
        total = sum((self._sum(folded, self._kernel, d) for d in axes[1:]), self._sum(folded, self._kernel, axes[0]))
        return self._unfolded(total / self._neighbours(axes))

    def _neighbours(self, axes: Sequence[int]) -> Tensor:
        """How many neighbours each output has, at least 1."""
        counts = [self._sides[d].neighbours.reshape([-1 if i == d else 1 for i in range(self.dims)]) for d in axes]
        return sum(counts[1:], counts[0]).clamp_min(1.0)

    def shared(self, pair: Tensor, profile: Tensor | None) -> Tensor:
        """Return E[y y'] at another output position: only taps that both outputs have can meet.

        With E[x_p x_p'] taken as e(p)·s(p')/mean(s) for a profile s of standard deviations (None: flat), the sum
        over the other output o' runs over a kernel S_t = Σ_o' s(o' + t); the output itself is left out.
        """
        if self._trivial:  # one tap, which meets the other place alone
            return self._unfolded(self._folded(pair) * self.taps.sum())
        _, s, others, kernel = self._profiled(profile)
        e = self._folded(pair) / others.clamp_min(1e-300)
        if prod(self.out_space) == 1:
            return self._run(e * others, self._kernel)
        return (self._run(e, kernel) - self._run(e * s, self._kernel)) / (prod(self.out_space) - 1)

    def _profiled(self, profile: Tensor | None) -> tuple[Tensor | None, Tensor, Tensor, Products]:
        """Return the profile, its average over the other inputs, and S; several pair maps come with the same one."""
        if id(profile) not in self._shared:
            s = torch.ones((1,) * (2 + self.dims), dtype=torch.float64) if profile is None else profile
            s = s.mean(dim=(0, 1), keepdim=True).clamp_min(0.0).sqrt().expand(1, 1, *self.space)
            inputs = prod(self.space)
            others = (s.sum() - s) / (inputs - 1) if inputs > 1 else s
            self._shared[id(profile)] = profile, s, others, products(self._frequencies(s))
        return self._shared[id(profile)]

    def taps_in_use(self) -> float:
        """Return (Σu)²/Σu² for the number u of outputs that each tap serves: those at a border serve fewer."""
        uses = self._frequencies(torch.ones((1, 1, *self.space), dtype=torch.float64))
        return float(uses.sum() ** 2 / uses.square().sum())

    def meetings(self) -> Meetings:
        """Return what two outputs of a convolution share: weights, and inputs read by different weights."""
        padding, dilation = (self._options.get(name, fill) for name, fill in (("padding", 0), ("dilation", 1)))

        def option(value: Any, d: int) -> Any:
            return value[d if len(value) > 1 else 0] if isinstance(value, (list, tuple)) else value

        axes = [
            (self.space[d], k, self.stride[d], option(padding, d), option(dilation, d), self.out_space[d])
            for d, k in enumerate(self.taps.shape[2:])
        ]
        return meetings(axes).over(self.shape[1] // self.groups)

    def _frequencies(self, s: Tensor) -> Tensor:
        """Return Σ_o s(o + t) for each tap t, weighed like the tap, shape (*kernel)."""
        counts = s[0, 0].detach()
        for side in self._sides:  # the front axis gives way to its taps, which go to the back
            counts = torch.tensordot(counts, side.hits, dims=([0], [1]))
        return counts * self.taps[0, 0]
