"""What is known of an activation before any weight is drawn: its moments, the roles of its axes, and how it was made."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from stepzero.moments import _roles as R
from stepzero.moments._stream import Stream

if TYPE_CHECKING:
    from stepzero.moments._pointwise import Pointwise
    from stepzero.moments._rows import Rows


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

    def times(self, factor: float | Tensor) -> Moments:
        """Return the moments of x·sqrt(factor)."""
        root = factor**0.5
        return Moments(self.mean * root, *(t * factor for t in self[1:]))

    def ranked(self, rank: int) -> Moments:
        """Return the same moments with all axes written, those in front with size 1."""
        return self.each(lambda t: ranked(t, rank))


Linear = Callable[[Moments], Moments]  # what a linear op does to moments, and to those of a small change


@dataclass(frozen=True)
class Knob:
    """The parameter whose law sets the scale of a weight: E[w²] = factor · E[parameter²]."""

    parameter: str
    factor: float = 1.0


@dataclass(frozen=True)
class Source:
    """A pointwise function of a Gaussian signal, not yet applied."""

    root: Signal
    phi: Pointwise
    evaluate: Callable[[], tuple[Moments, Moments | None]]
    shape: Callable[[Signal, Pointwise], Stream]


class Tails(NamedTuple):
    """What E[x² x'²] exceeds a Gaussian's 1 + 2ρ² by, for each kind of pair, in units of the variance within a channel squared.

    Where few weights make a channel, each has a variance and correlations of its own, and its distribution keeps much
    of the shape of its inputs; where a norm divides by the variance of few members, their squares add to a constant.
    """

    own: float = 0.0  # with itself: the excess kurtosis
    near: float = 0.0
    elsewhere: float = 0.0
    across: float = 0.0
    apart: float = 0.0


class Part(NamedTuple):
    """A small change that a sum takes from one operand, and how the sum is distributed where that change lives."""

    change: Moments
    mean: float  # the sum's mean there, less its mean
    variance: float  # the same of its variance
    bent: bool = False  # pairs that are none yet: a function of the sum makes them where it bends, by E[φ''φ'']

    def times(self, factor: float) -> Part:
        """Return the part of the sum times a number; what bends counts by the change and by the sum."""
        by = factor**4 if self.bent else factor**2
        return Part(self.change.times(by), self.mean * factor, self.variance * factor**2, self.bent)


class Signal:
    """Moments of one activation (or weight), with the tangent of the backward pass.

    `tangent` holds the moments of a small change of the activation, as zero-valued tensors that went through the
    same linear program from the taps on; differentiating the output's tangent gives E[g²] at every tap, because the
    transpose of a variance map is the map of gradient second moments. None: no tap lies upstream.
    Moments of a pending pointwise function are computed when first read.
    """

    __slots__ = (
        "_moments", "_placings", "_stream", "_tangent", "centred", "isometric", "knob", "known", "parts", "roles", "rows", "shape", "source", "tails", "tap",
        "unevenness",
    )  # fmt: skip

    def __init__(
        self,
        shape: Sequence[int],
        roles: R.Roles,
        moments: Moments | None = None,
        tangent: Moments | None = None,
        *,
        source: Source | None = None,
        knob: Knob | None = None,
        centred: bool = False,
        known: Tensor | None = None,
        unevenness: float = 1.0,
        tap: Tensor | None = None,
        stream: Stream = Stream(),  # noqa: B008
        parts: Sequence[Part] = (),
        tails: Tails = Tails(),  # noqa: B008
        rows: Rows | None = None,
        isometric: bool = False,
    ) -> None:
        self.shape = tuple(shape)
        self.roles = roles
        self._moments = moments
        self._placings: dict[R.Roles, Signal] = {}  # of numbers, by the roles of what they met
        self._tangent = tangent
        self.source = source
        self.knob = knob  # for weights
        self.centred = centred  # a weight whose rows sum to zero, or a softmax over channels: its changes do
        self.known = known  # a constant, with its numbers
        self.unevenness = unevenness  # E[v] E[1/v] for a channel's variance v: few weights make channels unequal
        self.tap = tap  # the tap on this very signal, if it is a weight op's output
        self.rows = rows  # of a softmax
        self.isometric = isometric  # a parameter, as a matrix, whose singular values are all alike (or zero)
        self.tails = tails
        self.parts = tuple(parts)  # of the tangent, where a sum's operands let changes live at places of their own
        self._stream = None if source is not None else stream

    @property
    def moments(self) -> Moments:
        """The six moments."""
        if self._moments is None:
            assert self.source is not None
            self._moments, self._tangent = self.source.evaluate()
        return self._moments

    @property
    def read(self) -> bool:
        """Whether the moments have been computed."""
        return self._moments is not None

    @property
    def tangent(self) -> Moments | None:
        """The moments of a small change, lean like the moments."""
        return self._tangent if self.moments else None

    @property
    def stream(self) -> Stream:
        """How the elements are distributed beyond their variance, typical of the map."""
        if self._stream is None:
            assert self.source is not None
            self._stream = self.source.shape(self.source.root, self.source.phi)
        return self._stream

    @property
    def skewness(self) -> float:
        """E[(x - E[x])³] / Var[x]^1.5: 0 after a weight, 1.6 after ReLU."""
        return self.stream.skewness

    @property
    def variance(self) -> float:
        """E[x²] - E[x]², averaged over the map."""
        return self.average(self.second - self.mean**2)

    @property
    def mean(self) -> Tensor:
        """E[x]."""
        return self.moments.mean

    @property
    def second(self) -> Tensor:
        """E[x²]."""
        return self.moments.second

    @property
    def elsewhere(self) -> Tensor:
        """E[x x'] at any other place of the same input."""
        return self.moments.elsewhere

    @property
    def across(self) -> Tensor:
        """E[x x'] at the same place of another input."""
        return self.moments.across

    @property
    def apart(self) -> Tensor:
        """E[x x'] at another place of another input."""
        return self.moments.apart

    def full(self, t: Tensor) -> Tensor:
        """Expand a lean tensor to the whole shape, without memory."""
        return t.expand(self.shape)

    def average(self, t: Tensor) -> float:
        """Return the mean of a lean tensor over the whole shape: each of its elements stands for equally many."""
        return float(t.detach().double().mean())

    def placing(self, roles: R.Roles) -> Signal:
        """Return known numbers whose axes stand for these roles, made once."""
        assert self.known is not None
        if roles not in self._placings:
            self._placings[roles] = constant(self.known.expand(self.shape), roles)
        return self._placings[roles]

    def mapped(self, f: Linear) -> tuple[Moments, Moments | None]:
        """Apply what a linear op does to the moments and to the tangent."""
        with torch.no_grad():
            m = f(self.moments)
        return m, None if self.tangent is None else f(self.tangent)

    def scaled(self, factor: float) -> Signal:
        """Return the signal times sqrt(factor)."""
        m, tangent = self.mapped(lambda m: m.times(factor))
        return Signal(self.shape, self.roles, m, tangent, centred=self.centred, stream=self.stream.times(factor**0.5))


def nothing(shape: Sequence[int]) -> Signal:
    """Return the signal of an empty tensor."""
    return Signal(tuple(shape), R.guess(shape), Moments(*(torch.zeros((1,) * len(shape), dtype=torch.float64),) * 6))


def constant(value: Tensor, roles: R.Roles | None = None) -> Signal:
    """Return the signal of a tensor with known numbers: the same for every input, and taken as locally alike.

    What its axes stand for, and so which of its elements are other places of one channel, is known from the signal that it
    meets (`placed`); until then all others are.
    """
    if value.is_complex():
        return _complex_constant(value.detach().to(torch.complex128), roles)
    x = value.detach().to(torch.float64)
    places = () if roles is None else R.axes(roles, "position")
    count = math.prod(x.shape[d] for d in places)
    if count > 1:  # each place with the average of the others
        others = x * (x.sum(dim=tuple(places), keepdim=True) - x) / (count - 1)
    else:
        others = x * x.mean() if x.numel() > 1 and roles is None else x * x
    square = x * x
    moments = Moments(x, square, square, others, square, others)
    return Signal(x.shape, R.same(x.shape, "copy") if roles is None else roles, moments, known=x)


def _complex_constant(x: Tensor, roles: R.Roles | None) -> Signal:
    """Return the signal of complex numbers: pairs are Re z z̄', and other places those of the same channel."""
    places = tuple(range(x.dim()) if roles is None else R.axes(roles, "position"))
    count = math.prod(x.shape[d] for d in places)
    mean = (x.sum(dim=places, keepdim=True) - x) / (count - 1) if count > 1 else x
    square, others = x.abs().square(), (x * mean.conj()).real
    moments = Moments(x.real.contiguous(), square, square, others, square, others)
    return Signal(x.shape, R.same(x.shape, "copy") if roles is None else roles, moments, known=x)


def placed(x: Signal, roles: R.Roles) -> Signal:
    """Return a signal that meets another of these roles: numbers learn from it what their axes stand for."""
    if x.known is None or x.tangent is not None or x.known.numel() == 1 or len(x.shape) > len(roles):
        return x
    own = roles[len(roles) - len(x.shape) :]
    return x.placing(tuple(R.resize(a, n) if n > 1 else () for a, n in zip(own, x.shape, strict=True)))


def lean(t: Tensor) -> Tensor:
    """Drop axes that only repeat (stride 0)."""
    for d in range(t.dim()):
        if t.shape[d] > 1 and t.stride(d) == 0:
            t = t.narrow(d, 0, 1)
    return t


def ranked(t: Tensor, rank: int) -> Tensor:
    """Return a lean tensor with all axes written."""
    return t if t.dim() == rank else t.reshape((1,) * (rank - t.dim()) + tuple(t.shape))


def widen(signal: Signal, shape: Sequence[int], roles: R.Roles) -> Signal:
    """Return a signal broadcast to a larger shape: repeated places and inputs are perfectly alike."""
    if tuple(shape) == signal.shape:
        return signal
    sizes = (1,) * (len(shape) - len(signal.shape)) + signal.shape
    own = tuple(axis if have == size else () for axis, have, size in zip(roles, sizes, shape, strict=True))
    before, after = R.count(own, "position"), R.count(roles, "position")
    new_inputs = R.count(own, "batch") == 1 and R.count(roles, "batch") > 1

    def spread(m: Moments) -> Moments:
        m = m.ranked(len(shape))
        if after > before:
            m = _copied_places(m, before, after)
        return m._replace(across=m.second, apart=m.elsewhere) if new_inputs else m

    m, tangent = signal.mapped(spread)
    return Signal(shape, roles, m, tangent, known=signal.known, centred=signal.centred, stream=signal.stream)


def _copied_places(m: Moments, before: int, after: int) -> Moments:
    """Each of `before` places stands `after / before` times: the copies are among the other places."""
    copies = after / before
    same, other = (copies - 1) / (after - 1), (after - copies) / (after - 1)
    return m._replace(
        near=m.second if before == 1 else m.near,
        elsewhere=same * m.second + other * m.elsewhere,
        apart=same * m.across + other * m.apart,
    )
