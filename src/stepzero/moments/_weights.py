"""Rules for ops that multiply by a weight: linear maps and convolutions of every kind.

For iid zero-mean weights E[y²] = Var[w] · (the same op with a ones kernel)(E[x²]), whatever the input's
correlations (He et al. 2015, eq. 7, with E[x²] kept as a map). So the op itself runs on the moment map and
borders, strides, dilation, groups and transposition come out exact, with no case analysis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Load
from stepzero.moments._signal import Moments, Signal, lean
from stepzero.network import Node, Ref

Variance = Callable[[Tensor], Tensor]  # lean map in, lean map out


@dataclass(frozen=True)
class Operator:
    """A linear op with an iid weight, as maps of lean tensors (the weight's second moment counted as 1)."""

    variance: Variance  # x² map → y² map, for a weight of second moment 1
    shared: Callable[[Tensor, Tensor], Tensor]  # (pair map, x² map) → pair map at any other output position
    beside: Variance  # pair map of neighbours → the same for the output
    roles: R.Roles


def weighted(call: Call) -> Signal:
    """Second moments exact for iid zero-mean weights at any width; pairs through the taps that two outputs share."""
    x, w = call.need(INPUT.get(call.op, "input")), call.need(WEIGHT.get(call.op, "weight"))
    bias = call.signal("bias") if "bias" in call.node.arguments else call.signal("self")
    op = OPERATORS[call.op](call, x, w)
    m = _without_mean(x.moments) if w.centred else x.moments
    with torch.no_grad():
        unit = op.variance(m.second)
        fan = x.average(op.variance(torch.ones_like(m.second)))
        w = call.weights.settle(call, w, Load(x.average(unit), fan, x.average(m.second)))
        v = _scale(w)
        second = unit * v
        across = second if m.across is m.second else op.variance(m.across) * v
        near = op.beside(m.near) * v
        elsewhere = op.shared(m.elsewhere, m.second) * v
        apart = elsewhere if m.apart is m.elsewhere else op.shared(m.apart, m.second) * v
        mean = torch.zeros((1,) * second.dim(), dtype=torch.float64)
    carrier = op.variance(x.carrier.expand(x.carrier.shape)) * v
    y = Signal(call.shape, op.roles, Moments(mean, second, near, elsewhere, across, apart), carrier)
    return y if bias is None else _biased(y, bias, call)


def _scale(w: Signal) -> float:
    """E[w²], the average over the weight's elements."""
    return w.average(w.second)


def _without_mean(m: Moments) -> Moments:
    """What a weight whose rows sum to zero sees: the common mean is annihilated."""
    square = m.mean**2
    return Moments(torch.zeros_like(m.mean), *((t - square).clamp_min(0.0) for t in m[1:]))


def _biased(y: Signal, bias: Signal, call: Call) -> Signal:
    """Add a bias: the same number at every place and for every input."""
    shape = [1] * len(y.shape)
    axis = CHANNEL_AXIS.get(call.op, 1)
    shape[axis] = -1 if bias.second.numel() > 1 else 1
    mean, second = bias.mean.reshape(shape), bias.second.reshape(shape)
    if not float(second.abs().max()):
        return y
    m = y.moments
    cross = 2 * m.mean * mean
    return Signal(y.shape, y.roles, Moments(m.mean + mean, *(t + second + cross for t in m[1:])), y.carrier)


def linear(call: Call, x: Signal, w: Signal) -> Operator:
    """y = x Wᵀ along the last axis (also addmm, mm and matmul with a weight of shape (in, out))."""
    fan = x.shape[-1]

    def variance(t: Tensor) -> Tensor:
        if t.dim() == 0:
            return t * fan
        return t * fan if t.shape[-1] == 1 else t.sum(-1, keepdim=True)

    out = ((call.shape[-1], "channel"),) if call.shape[-1] > 1 else ()
    roles: R.Roles = (*x.roles[:-1], out)  # type: ignore[assignment]
    return Operator(variance, lambda pair, _: variance(pair), variance, roles)


def convolution(call: Call, x: Signal, w: Signal) -> Operator:
    """Any convolution: channels are summed within groups, then one ones-kernel runs over the map."""
    g = _Geometry(call, x, w)

    def variance(t: Tensor) -> Tensor:
        return g.run(g.fold(t), g.ones)

    roles = list(x.roles)
    roles[1] = ((call.shape[1], "channel"),) if call.shape[1] > 1 else ()
    for d in range(2, len(roles)):
        roles[d] = ((call.shape[d], "position"),) if call.shape[d] > 1 else ()
    return Operator(variance, g.shared, g.beside, tuple(roles))


class _Geometry:
    """A convolution's way of meeting positions, with channels folded away."""

    def __init__(self, call: Call, x: Signal, w: Signal) -> None:
        a = call.node.arguments
        self.dims = len(w.shape) - 2
        transposed = call.op.startswith("conv_transpose") or bool(a.get("transposed"))
        conv = (F.conv1d, F.conv2d, F.conv3d)[self.dims - 1]
        back = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.dims - 1]
        options = {k: a[k] for k in ("stride", "padding", "dilation") if k in a}
        if transposed and "output_padding" in a:
            options["output_padding"] = a["output_padding"]
        self._op = back if transposed else conv
        self.transposed = transposed
        stride = a["stride"]
        self.stride = [int(n) for n in (stride * self.dims if len(stride) == 1 else stride)]
        self._options = options
        self.groups = int(a.get("groups", 1))
        self.channels = x.shape[1]
        self.out_channels = call.shape[1]
        self.space, self.out_space = x.shape[2:], call.shape[2:]
        self.ones = torch.ones((1, 1, *w.shape[2:]), dtype=torch.float64)

    def fold(self, t: Tensor) -> Tensor:
        """Sum channels within each group: (B, C, *space) → (B, 1 or groups, *space), positions written out."""
        if t.dim() == 0:
            t = t.reshape((1,) * (2 + self.dims))
        per_group = self.channels // self.groups
        if t.shape[1] == 1:
            t = t * per_group
        else:
            t = t.reshape(t.shape[0], self.groups, per_group, *t.shape[2:]).sum(2)
            if self.groups > 1 and per_group and bool((t == t[:, :1]).all()) and not t.requires_grad:
                t = t[:, :1]
        return t.expand(*t.shape[:2], *self.space)

    def run(self, t: Tensor, kernel: Tensor) -> Tensor:
        """Run the op with a (1, 1, *k) kernel on each folded channel, and unfold to the output's channels."""
        flat = t.reshape(-1, 1, *self.space)
        y = self._op(flat, kernel, **self._options).reshape(*t.shape[:2], *self.out_space)
        return y if y.shape[1] == 1 else y.repeat_interleave(self.out_channels // y.shape[1], dim=1)

    def beside(self, pair: Tensor) -> Tensor:
        """Return E[y y'] for the next output position: the taps valid at both, averaged over the neighbours.

        Neighbours of a strided transposed convolution use different taps, so they share nothing.
        """
        e = self.fold(pair)
        total, neighbours = torch.zeros(()), torch.zeros(())
        for d, (n, out, s) in enumerate(zip(self.space, self.out_space, self.stride, strict=True)):
            if out == 1 or (self.transposed and s > 1):
                continue
            for ahead in (True, False):
                seen = torch.zeros(out, dtype=torch.float64)
                seen[: out - 1] = 1.0
                mask = torch.zeros(n, dtype=torch.float64)
                mask[: max(0, n - s)] = 1.0
                if not ahead:
                    seen, mask = seen.flip(0), mask.flip(0)
                shape = [-1 if i == d else 1 for i in range(self.dims)]
                total = total + self.run(e * mask.reshape(shape), self.ones) * seen.reshape(shape)
                neighbours = neighbours + seen.reshape(shape)
        if neighbours.dim() == 0:
            return self.run(e, self.ones) * (0.0 if self.transposed else 1.0)
        return total / neighbours.clamp_min(1.0)

    def shared(self, pair: Tensor, second: Tensor) -> Tensor:
        """Return E[y y'] at another output position: only taps that both outputs have can meet.

        With E[x_p x_p'] taken as e(p)·s(p')/mean(s) for s = sqrt(E[x²]), the sum over the other output o' runs
        over a kernel S_t = Σ_o' s(o' + t); the output itself is left out.
        """
        outputs = max(1, _count(self.out_space))
        inputs = _count(self.space)
        s = second.mean(dim=(0, 1), keepdim=True) if second.dim() else second.reshape((1,) * (2 + self.dims))
        s = s.expand(1, 1, *self.space).clamp_min(0.0).sqrt()
        others = (s.sum() - s) / (inputs - 1) if inputs > 1 else s
        e = self.fold(pair) / others.clamp_min(1e-300)
        if outputs == 1:
            return self.run(e * others, self.ones)
        with torch.enable_grad():
            kernel = self.ones.clone().requires_grad_()
            total = self._op(s.detach(), kernel, **self._options).sum()
            (taps,) = torch.autograd.grad(total, kernel)
        return (self.run(e, taps) - self.run(e * s, self.ones)) / (outputs - 1)


def _count(space: tuple[int, ...]) -> int:
    total = 1
    for n in space:
        total *= n
    return total


def weight_argument(node: Node) -> int | None:
    """Return the value that stands where a weight would, or None for other ops."""
    w = node.arguments.get(WEIGHT.get(node.op, "weight")) if node.op in OPERATORS else None
    return w.id if isinstance(w, Ref) else None


def input_argument(node: Node) -> int | None:
    """Return the value that a weight op multiplies, or None for other ops."""
    x = node.arguments.get(INPUT.get(node.op, "input")) if node.op in OPERATORS else None
    return x.id if isinstance(x, Ref) else None


def product_with_weight(call: Call) -> bool:
    """Say whether the second factor of mm, matmul, addmm or bmm is a weight."""
    w = call.signal(WEIGHT[call.op])
    return w is not None and w.knob is not None and len(w.shape) == 2


OPERATORS: dict[str, Callable[[Call, Signal, Signal], Operator]] = {
    "addmm": linear,
    "conv1d": convolution,
    "conv2d": convolution,
    "conv3d": convolution,
    "conv_transpose1d": convolution,
    "conv_transpose2d": convolution,
    "conv_transpose3d": convolution,
    "convolution": convolution,
    "linear": linear,
    "matmul": linear,
    "mm": linear,
}
INPUT = {"addmm": "mat1", "matmul": "self", "mm": "self"}
WEIGHT = {"addmm": "mat2", "matmul": "other", "mm": "mat2"}
CHANNEL_AXIS = {"linear": -1, "addmm": -1}

__all__ = ["OPERATORS", "lean", "product_with_weight", "weighted"]
