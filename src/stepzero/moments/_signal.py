"""What is known of an activation before any weight is drawn: its moments, the roles of its axes, and how it was made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from stepzero.moments import _roles as R


class Moments(NamedTuple):
    """Expectations over weights and inputs, lean: each tensor broadcasts to the activation's shape.

    An axis along which nothing changes has size 1. All but the first are products of an element with itself or
    with its like of the same channel: at the same place, next to it or anywhere else, for the same or another input.
    """

    mean: Tensor  # E[x]
    second: Tensor  # E[x²]: same place, same input
    near: Tensor  # E[x x']: the next place of the same input (what a small window meets)
    elsewhere: Tensor  # any other place of the same input (what a mean over the map meets)
    across: Tensor  # the same place of another input
    apart: Tensor  # another place of another input

    def each(self, f: Callable[[Tensor], Tensor]) -> Moments:
        """Apply one map to all six (shared tensors once)."""
        done: dict[int, Tensor] = {}
        for t in self:
            if id(t) not in done:
                done[id(t)] = f(t)
        return Moments(*(done[id(t)] for t in self))


@dataclass(frozen=True)
class Knob:
    """The parameter whose law sets the scale of a weight: E[w²] = factor · E[parameter²]."""

    parameter: str
    factor: float = 1.0


@dataclass(frozen=True)
class Source:
    """A pointwise function of a Gaussian signal, not yet applied."""

    root: Signal
    phi: object  # Pointwise; typed there to keep this file free of functions
    evaluate: Callable[[], tuple[Moments, Tensor]]


class Signal:
    """Moments of one activation (or weight), with the carrier of the backward pass.

    `carrier` is a zero-valued tensor that went through the linear program of second moments; differentiating the
    output's carrier gives E[g²] at every tap, because the transpose of a variance map is the map of gradient
    second moments. Moments of a pending pointwise function are computed when first read.
    """

    __slots__ = ("_carrier", "_moments", "centred", "knob", "known", "roles", "shape", "source")

    def __init__(
        self,
        shape: Sequence[int],
        roles: R.Roles,
        moments: Moments | None = None,
        carrier: Tensor | None = None,
        *,
        source: Source | None = None,
        knob: Knob | None = None,
        centred: bool = False,
        known: Tensor | None = None,
    ) -> None:
        self.shape = tuple(shape)
        self.roles = roles
        self._moments = moments
        self._carrier = carrier
        self.source = source
        self.knob = knob  # for weights
        self.centred = centred  # a weight whose rows sum to zero
        self.known = known  # a constant, with its numbers

    @property
    def moments(self) -> Moments:
        """The six moments."""
        self._settle()
        assert self._moments is not None
        return self._moments

    @property
    def carrier(self) -> Tensor:
        """The carrier, lean like the moments."""
        self._settle()
        assert self._carrier is not None
        return self._carrier

    def _settle(self) -> None:
        if self._moments is None or self._carrier is None:
            assert self.source is not None
            self._moments, self._carrier = self.source.evaluate()

    @property
    def mean(self) -> Tensor:
        return self.moments.mean

    @property
    def second(self) -> Tensor:
        return self.moments.second

    @property
    def near(self) -> Tensor:
        return self.moments.near

    @property
    def elsewhere(self) -> Tensor:
        return self.moments.elsewhere

    @property
    def across(self) -> Tensor:
        return self.moments.across

    @property
    def apart(self) -> Tensor:
        return self.moments.apart

    def full(self, t: Tensor) -> Tensor:
        """Expand a lean tensor to the whole shape, without memory."""
        return t.expand(self.shape)

    def average(self, t: Tensor) -> float:
        """Return the mean of a lean tensor over the whole shape."""
        return float(t.double().mean())  # every element of a lean tensor stands for equally many

    def scaled(self, factor: float) -> Signal:
        """Return the signal times sqrt(factor)."""
        root = factor**0.5
        m = self.moments
        scaled = Moments(m.mean * root, *(t * factor for t in m[1:]))
        return Signal(self.shape, self.roles, scaled, self.carrier * factor, centred=self.centred)


def zero() -> Tensor:
    """Return the carrier of a signal that no gradient is asked of."""
    return torch.zeros((), dtype=torch.float64)


def constant(value: Tensor, roles: R.Roles | None = None) -> Signal:
    """Return the signal of a tensor with known numbers: the same for every input."""
    x = value.detach().to(torch.float64)
    roles = R.guess(x.shape) if roles is None else roles
    others = x * x.mean() if x.numel() > 1 else x * x
    return Signal(x.shape, roles, Moments(x, x * x, others, others, x * x, others), zero(), known=x)


def lean(t: Tensor) -> Tensor:
    """Drop axes that only repeat (stride 0)."""
    for d in range(t.dim()):
        if t.shape[d] > 1 and t.stride(d) == 0:
            t = t.narrow(d, 0, 1)
    return t


def widen(signal: Signal, shape: Sequence[int], roles: R.Roles) -> Signal:
    """Return a signal broadcast to a larger shape: repeated places and inputs are perfectly alike."""
    if tuple(shape) == signal.shape:
        return signal
    pad = len(shape) - len(signal.shape)
    sizes = (1,) * pad + signal.shape
    own = tuple(axis if have == size else () for axis, have, size in zip(roles, sizes, shape, strict=True))
    m = signal.moments.each(lambda t: t.reshape((1,) * pad + tuple(t.shape)) if t.dim() == len(signal.shape) else t)
    before, after = R.count(own, "position"), R.count(roles, "position")
    copies = after / max(1, before)
    if copies > 1:
        same, other = (copies - 1) / (after - 1), (after - copies) / (after - 1)
        m = m._replace(
            near=m.second if before == 1 else m.near,
            elsewhere=same * m.second + other * m.elsewhere,
            apart=same * m.across + other * m.apart,
        )
    if R.count(own, "batch") == 1 and R.count(roles, "batch") > 1:
        m = m._replace(across=m.second, apart=m.elsewhere)
    carrier = signal.carrier
    if carrier.dim() == len(signal.shape):
        carrier = carrier.reshape((1,) * pad + tuple(carrier.shape))
    return Signal(shape, roles, m, carrier, known=signal.known)


def replaced(signal: Signal, **changes: object) -> Moments:
    """Return the moments with some replaced."""
    return signal.moments._replace(**changes)  # type: ignore[arg-type]


__all__ = ["Knob", "Moments", "Signal", "Source", "constant", "lean", "replace", "replaced", "widen", "zero"]
