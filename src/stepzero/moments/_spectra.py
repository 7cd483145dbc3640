"""Rules for Fourier transforms: Parseval's sum, with what all places share at frequency 0.

Of n members of one variance with one pair moment p, the spectrum has E|y_0|² = n q + n(n - 1) p and E|y_k|² = n(q - p) at every
other frequency: exact on average over frequencies, whatever the pairs. Frequencies are independent of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._signal import Moments, Signal
from stepzero.network import Graph, Ref


@dataclass(frozen=True)
class Axis:
    """One axis of a transform."""

    d: int
    size: int  # of the signal in the domain of places or channels
    role: R.Role  # whose pairs add up
    scale: float  # factor on the sum


def transformed(call: Call) -> Signal:
    """fft, rfft, ifft, irfft along one or several axes."""
    x = call.operand("self")
    axes, kind = _axes(call, x), call.op.removeprefix("fft_")
    rest = tuple(role for d, role in enumerate(x.roles) if d not in {axis.d for axis in axes})
    places = R.count(rest, "position"), len(R.axes(rest, "position"))
    real = "rfft" in kind
    mirrored = 1.0 if _hermitian(call.graph, call.node.inputs[0]) else 0.5

    def forward(m: Moments) -> Moments:
        for i, axis in enumerate(axes):
            m = _analysed(m, axis, axis.size // 2 + 1 if real and i == len(axes) - 1 else axis.size)
        nothing = 0.0 * m.second.flatten()[0].reshape((1,) * len(x.shape))
        return m if places[0] > 1 else m._replace(near=nothing, elsewhere=nothing, apart=nothing)

    def backward(m: Moments) -> Moments:
        so_far, dims = places
        for i, axis in enumerate(axes):
            half = real and i == len(axes) - 1
            shares = _shares(axis.size, mirrored) if half else torch.ones(axis.size, dtype=torch.float64)
            m = _synthesised(m, axis, shares, so_far, dims)
            so_far, dims = (so_far * axis.size, dims + 1) if axis.role == "position" else (so_far, dims)
        return m

    run = backward if kind.startswith("i") else forward
    roles = tuple(R.resize(a, n) for a, n in zip(x.roles, call.shape, strict=True))
    return Signal(call.shape, roles, *x.mapped(lambda m: run(m.ranked(len(x.shape)))))


def _axes(call: Call, x: Signal) -> list[Axis]:
    """Return the axes in the order in which they are transformed: a real one comes last backwards, and is cut last forwards."""
    kind, rank = call.op.removeprefix("fft_"), len(x.shape)
    sizes, dims = call.argument("s", call.argument("n")), call.argument("dim")
    dims = list(range(rank)) if dims is None else [dims] if isinstance(dims, int) else list(dims)
    dims = [d % rank for d in dims]
    full = [call.shape[d] if kind.startswith("i") else x.shape[d] for d in dims]
    given = full if sizes is None else [sizes] if isinstance(sizes, int) else list(sizes)
    if [n if s in (None, -1) else s for s, n in zip(given, full, strict=True)] != full:
        raise NoRuleError(f"{call.op} (at {call.where}) that cuts or pads its input has no rule")
    power = {None: float(kind.startswith("i")), "backward": float(kind.startswith("i")), "ortho": 0.5}
    power["forward"] = 1.0 - power["backward"]
    exponent = power[call.argument("norm")]
    return [Axis(d, n, _role(x.roles[d]), n**-exponent) for d, n in zip(dims, full, strict=True)]


def _role(axis: R.Axis) -> R.Role:
    return "position" if "position" in R.of(axis) else "batch" if R.is_all(axis, "batch") else "channel"


PAIRED = {  # with the second, near, elsewhere, across and apart moments: what two different members of an axis have
    "position": ("elsewhere", "elsewhere", "elsewhere", "apart", "apart"),
    "batch": ("across", "apart", "apart", "across", "apart"),
}


def _analysed(m: Moments, axis: Axis, frequencies: int) -> Moments:
    """Return what Σ x_n e^(-2πikn/N) has at each frequency k."""
    mean, square = _total(m.mean, axis) * axis.scale, m.mean**2
    found = [_line(0.0 * mean, mean, axis, frequencies)]
    for own, name in zip(m[1:], PAIRED.get(axis.role, ("mean",) * 5), strict=True):
        pair = square if name == "mean" else getattr(m, name)
        private, common = _total(own - pair, axis), axis.size * _total(pair, axis)
        found.append(_line(private * axis.scale**2, common * axis.scale**2, axis, frequencies))
    return Moments(*found)


def _line(rest: Tensor, extra: Tensor, axis: Axis, frequencies: int) -> Tensor:
    """Return `rest` at every frequency, and `extra` beside it at 0."""
    if not extra.requires_grad and not bool(extra.any()):
        return rest
    rest, extra = torch.broadcast_tensors(rest, extra)
    others = rest.expand([frequencies - 1 if d == axis.d else n for d, n in enumerate(rest.shape)])
    return torch.cat([rest + extra, others], dim=axis.d)


def _synthesised(m: Moments, axis: Axis, shares: Tensor, places: int, dims: int) -> Moments:
    """Return what Σ y_k e^(2πikn/N) has at each place, of frequencies that count `shares` times, where there are places along other axes."""
    n, square = axis.size, axis.scale**2
    line = [-1 if d == axis.d else 1 for d in range(m.second.dim())]
    beside = shares * torch.cos(2.0 * math.pi * torch.arange(len(shares), dtype=torch.float64) / n)

    def over(t: Tensor, by: Tensor = shares) -> Tensor:
        return square * (t * by.reshape(line)).sum(axis.d, keepdim=True)

    def far(t: Tensor) -> Tensor:
        return (n * square * shares[0] * t.narrow(axis.d, 0, 1) - over(t)) / max(n - 1, 1)

    def others(own: Tensor, pair: Tensor) -> Tensor:
        here, there, both = (places - 1) * over(pair), (n - 1) * far(own), (n - 1) * (places - 1) * far(pair)
        return (here + there + both) / max(n * places - 1, 1)

    mean = axis.scale * m.mean.narrow(axis.d, 0, 1)
    if axis.role != "position":
        return Moments(mean, *(over(t) for t in m[1:]))
    near = (dims * over(m.near) + over(m.second, beside)) / (dims + 1)
    elsewhere, apart = others(m.second, m.elsewhere), others(m.across, m.apart)
    return Moments(mean, over(m.second), near, elsewhere, over(m.across), apart)


def _shares(n: int, mirrored: float) -> Tensor:
    """How often each frequency of half a spectrum counts: twice, but for those without a mirror image."""
    shares = torch.full((n // 2 + 1,), 2.0, dtype=torch.float64)
    shares[0] = mirrored
    if n % 2 == 0:
        shares[-1] = mirrored
    return shares


def _total(t: Tensor, axis: Axis) -> Tensor:
    """Sum a lean tensor along an axis, which stays with size 1."""
    return t.sum(axis.d, keepdim=True) * (axis.size if t.shape[axis.d] == 1 else 1)


def _hermitian(graph: Graph, value: int) -> bool:
    """Say whether half a spectrum is that of real numbers, made by rfft and products of such."""
    node = graph.producer(value)
    if node is None or node.op.startswith("fft_r"):
        return node is not None
    sources = [item.id for item in node.arguments.values() if isinstance(item, Ref)]
    complexes = [v for v in sources if graph.values[v].dtype.is_complex]
    return bool(complexes) and node.op in KEEPING and all(_hermitian(graph, v) for v in complexes)


KEEPING = frozenset(
    ["mul", "add", "sub", "div", "_conj", "conj_physical", "resolve_conj", "alias", "clone", "contiguous", "slice"]
)
_NAMES = [f"{i}{r}fft{n}" for i in ("", "i") for r in ("", "r") for n in ("", "2", "n")]
SPECTRA: dict[str, Rule] = dict.fromkeys((f"fft_{name}" for name in _NAMES), transformed)
