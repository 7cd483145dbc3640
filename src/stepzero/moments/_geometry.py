"""How a convolution of any kind meets positions: its own op on lean maps, with the channels folded away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stepzero.moments._signal import ranked

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


class Geometry:
    """One convolution, as maps of (batch, channels, *space) tensors whose axes may have size 1.

    Borders, strides, dilation, groups and transposition come from running the op itself.
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
        self._shared: dict[int, tuple[Tensor, Tensor, Tensor]] = {}  # by profile
        self.taps = taps  # (1, 1, *kernel): how much of the weight's variance each tap has, 1 on average

    def given(self, t: Tensor, weight: Tensor) -> Tensor:
        """Run the op with a given weight on a map (no bias)."""
        t = ranked(t, len(self.shape))
        t = t.expand(t.shape[0], *self.shape[1:])
        y: Tensor = self._op(t, weight, groups=self.groups, **self._options)
        return y

    def variance(self, t: Tensor) -> Tensor:
        """Return the map of E[y²] for that of E[x²] and weights of variance 1."""
        return self._run(self._folded(t), self.taps)

    def _folded(self, t: Tensor) -> Tensor:
        """Sum channels within each group: (B, C, *space) → (B, 1 or groups, *space), positions written out."""
        t = ranked(t, len(self.shape))
        members = self.shape[1] // self.groups
        if t.shape[1] == 1:
            t = t * members
        else:
            t = t.reshape(t.shape[0], self.groups, members, *t.shape[2:]).sum(2)
            if self.groups > 1 and not t.requires_grad and bool((t == t[:, :1]).all()):
                t = t[:, :1]
        return t.expand(*t.shape[:2], *self.space)

    def _run(self, t: Tensor, kernel: Tensor) -> Tensor:
        """Run the op with a (1, 1, *k) kernel on each folded channel, and unfold to the output's channels."""
        y: Tensor = self._op(t.reshape(-1, 1, *self.space), kernel, **self._options)
        y = y.reshape(*t.shape[:2], *self.out_space)
        return y if y.shape[1] == 1 else y.repeat_interleave(self.out[1] // y.shape[1], dim=1)

    def beside(self, pair: Tensor) -> Tensor:
        """Return E[y y'] for the next output position: the taps valid at both, averaged over the neighbours.

        Neighbours of a strided transposed convolution use different taps, so they share nothing.
        """
        folded = self._folded(pair)
        axes = (
            [] if self.transposed and max(self.stride) > 1 else [d for d in range(self.dims) if self.out_space[d] > 1]
        )
        if not axes:
            return self._run(folded, self.taps) * (0.0 if self.transposed else 1.0)
        parts = [self._towards(folded, d, ahead) for d in axes for ahead in (True, False)]
        total = sum((y for y, _ in parts[1:]), parts[0][0])
        return total / sum((n for _, n in parts[1:]), parts[0][1]).clamp_min(1.0)

    def _towards(self, folded: Tensor, d: int, ahead: bool) -> tuple[Tensor, Tensor]:
        """The products with the neighbour on one side, and where there is one."""
        inputs, outputs = self.space[d], self.out_space[d]
        mask, seen = torch.zeros(inputs, dtype=torch.float64), torch.zeros(outputs, dtype=torch.float64)
        mask[: max(0, inputs - self.stride[d])] = 1.0
        seen[: outputs - 1] = 1.0
        along = [-1 if i == d else 1 for i in range(self.dims)]
        mask, seen = ((t if ahead else t.flip(0)).reshape(along) for t in (mask, seen))
        return self._run(folded * mask, self.taps) * seen, seen

    def shared(self, pair: Tensor, profile: Tensor | None) -> Tensor:
        """Return E[y y'] at another output position: only taps that both outputs have can meet.

        With E[x_p x_p'] taken as e(p)·s(p')/mean(s) for a profile s of standard deviations (None: flat), the sum
        over the other output o' runs over a kernel S_t = Σ_o' s(o' + t); the output itself is left out.
        """
        s, others, kernel = self._profiled(profile)
        e = self._folded(pair) / others.clamp_min(1e-300)
        if prod(self.out_space) == 1:
            return self._run(e * others, self.taps)
        return (self._run(e, kernel) - self._run(e * s, self.taps)) / (prod(self.out_space) - 1)

    def _profiled(self, profile: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the profile, its average over the other inputs, and S; several pair maps come with the same one."""
        if id(profile) not in self._shared:
            s = torch.ones((1,) * (2 + self.dims), dtype=torch.float64) if profile is None else profile
            s = s.mean(dim=(0, 1), keepdim=True).clamp_min(0.0).sqrt().expand(1, 1, *self.space)
            inputs = prod(self.space)
            others = (s.sum() - s) / (inputs - 1) if inputs > 1 else s
            self._shared[id(profile)] = s, others, self._frequencies(s)
        return self._shared[id(profile)]

    def taps_in_use(self) -> float:
        """Return (Σu)²/Σu² for the number u of outputs that each tap serves: those at a border serve fewer."""
        uses = self._frequencies(torch.ones((1, 1, *self.space), dtype=torch.float64))
        return float(uses.sum() ** 2 / uses.square().sum())

    def overlap(self) -> tuple[float, float]:
        """Return the input places that two outputs share, over taps²: neighbours, and any two on average."""
        taps, sides, everywhere = prod(self.taps.shape[2:]), [], 1.0
        for k, s, n in zip(self.taps.shape[2:], self.stride, self.out_space, strict=True):
            lag = (torch.arange(n)[:, None] - torch.arange(n)).abs() * s
            common = (k - lag).clamp_min(0).to(torch.float64)
            everywhere *= float(common.mean()) * n
            sides += [float(common[0, 1]) / k] if n > 1 else []
        near = sum(sides) / max(1, len(sides))
        return near / taps, (everywhere - taps) / taps**2 / max(1, prod(self.out_space) - 1)

    def _frequencies(self, s: Tensor) -> Tensor:
        """Return Σ_o s(o + t) for each tap t: the gradient of Σ op(s, kernel) by the kernel."""
        with torch.enable_grad():
            kernel = torch.ones_like(self.taps).requires_grad_()
            (counts,) = torch.autograd.grad(self._op(s.detach(), kernel, **self._options).sum(), kernel)
        return counts * self.taps
