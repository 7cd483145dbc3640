"""Recurrent cells in mean field: one neuron of a wide layer, simulated through time, and how small changes travel in it.

A preactivation of a wide layer is Gaussian over its weights. Its covariance in time is that of the input and of the
hidden state, which the neurons themselves supply (dynamic mean field theory; Chen, Pennington & Schoenholz 2018,
arXiv:1806.05394). So a few thousand independent neurons with fixed random numbers are followed, twice each: both
copies share what all times have in common, and differ in what is private to a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NEURONS = 2048  # at least; in short sequences more, up to MOST
MOST = 16384
WORK = 1 << 18  # neurons times steps
STEADY = 96  # steps after which an input that does not change finds a stationary state
AVERAGED = 48  # of these, the last ones are averaged for all later times


class Step(NamedTuple):
    """One step of a cell, with its derivatives by the state before and by each preactivation."""

    hidden: Array
    state: Array
    state_by_state: Array
    state_by_inputs: Array  # (preactivations, neurons)
    hidden_by_state: Array
    hidden_by_inputs: Array


Cell = Callable[[Array, Array], Step]  # preactivations and state


class Drive(NamedTuple):
    """Preactivations of a cell: variance from each unit of E[x²] and of E[h²], mean and variance of the bias."""

    by_input: Array
    by_hidden: Array
    mean: Array
    spread: Array


class Course(NamedTuple):
    """What a layer does over time; each array has one number for each step."""

    second: Array  # E[h²]
    near: Array  # E[h h'] one step apart
    pair: Array  # at distant times
    others: Array  # with the average other of the steps so far
    mean: Array
    state: Array  # E[c²]
    state_mean: Array
    state_pair: Array  # E[c c'] of the two copies
    gain: Array  # second moment of the change of h per unit of independent changes of x at each step
    steady_gain: Array  # the same for one change at all steps
    pair_gain: Array  # and its pair moment at distant times
    next_gain: Array  # pair moment one step apart, of independent changes
    steady_next_gain: Array  # and of one change at all steps
    state_gain: Array  # second moment of the change of c, as `gain`

    def reversed(self) -> Course:
        """Return the course of a layer that read its input from the end."""
        return Course(*(t[::-1] for t in self))


@dataclass(frozen=True)
class Input:
    """A layer's input: moments along time, summed over nothing."""

    second: Array  # for each step
    near: float  # correlation of the private part one step apart
    pair: float  # at distant times


def lstm(a: Array, c: Array) -> Step:
    """c' = σ(f)·c + σ(i)·tanh(g), h = σ(o)·tanh(c') (Hochreiter & Schmidhuber 1997; Gers et al. 2000)."""
    i, f, o = (_sigmoid(a[n]) for n in (0, 1, 3))
    g = np.tanh(a[2])
    new = f * c + i * g
    t = np.tanh(new)
    nothing = np.zeros_like(i)
    by = np.stack([g * i * (1 - i), c * f * (1 - f), i * (1 - g * g), nothing])
    out = np.stack([nothing, nothing, nothing, t * o * (1 - o)])
    return Step(o * t, new, f, by, o * (1 - t * t), out)


def gru(a: Array, h: Array) -> Step:
    """n = tanh(W x + r·(U h)), h' = (1 - z)·n + z·h (Cho et al. 2014); the two parts of n are preactivations."""
    r, z = _sigmoid(a[0]), _sigmoid(a[1])
    n = np.tanh(a[2] + r * a[3])
    new, slope = (1 - z) * n + z * h, (1 - z) * (1 - n * n)
    by = np.stack([slope * a[3] * r * (1 - r), (h - n) * z * (1 - z), slope, slope * r])
    return Step(new, new, z, by, np.ones_like(z), np.zeros_like(by))


def tanh(a: Array, h: Array) -> Step:
    """h' = tanh(W x + U h) (Elman 1990)."""
    new = np.tanh(a[0])
    return Step(new, new, np.zeros_like(new), (1 - new * new)[None], np.ones_like(new), np.zeros_like(a))


def relu(a: Array, h: Array) -> Step:
    """h' = max(0, W x + U h)."""
    new = np.maximum(a[0], 0.0)
    return Step(new, new, np.zeros_like(new), (a > 0).astype(float), np.ones_like(new), np.zeros_like(a))


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))


class _Noise:
    """Standard normal numbers that stay alike in time as far as they are told to."""

    def __init__(self, generator: np.random.Generator, shape: tuple[int, ...]) -> None:
        self.generator, self.shape = generator, shape
        self.now = self._fresh()

    def step(self, alike: float) -> Array:
        """Return the next numbers, whose correlation with the last ones is `alike`."""
        self.now = alike * self.now + (1 - alike * alike) ** 0.5 * self._fresh()
        return self.now

    def _fresh(self) -> Array:
        z = self.generator.standard_normal(self.shape)
        z -= z.mean(-1, keepdims=True)
        return np.asarray(z / z.std(-1, keepdims=True))


def follow(cell: Cell, drive: Drive, x: Input, hidden: float, state: float, projected: float = 1.0) -> Course:
    """Follow a layer through time.

    Args:
        cell: Its step.
        drive: Its preactivations; `by_hidden` is per unit of E[h²] of what is fed back.
        x: Its input.
        hidden: E[h²] before the first step.
        state: E[c²] before the first step.
        projected: E[(W h)²] / E[h²] where a projection of h is put out and fed back.
    """
    seconds = x.second[: STEADY if np.ptp(x.second) <= 1e-9 * x.second.max() else None]
    layer = Layer(cell, drive, hidden, state, projected, neurons=min(max(NEURONS, WORK // len(seconds)), MOST))
    rows = [layer.step(float(second), x.near, x.pair) for second in seconds]
    return Course(*_through_all(np.array(rows), len(x.second)).T)


class Layer:
    """Neurons of one layer, between two steps; each is there twice."""

    def __init__(
        self, cell: Cell, drive: Drive, hidden: float, state: float, projected: float = 1.0, neurons: int = NEURONS
    ) -> None:
        random = np.random.default_rng(0)
        self.cell, self.drive, self.projected, self.neurons = cell, drive, projected, neurons
        count = len(drive.mean)
        self.shared = _Noise(random, (count, neurons)).now
        self.by_input, self.by_hidden = (_Noise(random, (count, 2 * neurons)) for _ in range(2))
        self.c = np.tile(_Noise(random, (neurons,)).now, 2) * state**0.5
        self.q, self.e, self.memory = hidden, hidden, 0.0
        self.h: Array | None = None
        self.taken: Step | None = None  # the last step
        self.total, self.squares, self.steps = np.zeros(2 * neurons), 0.0, 0  # Σh, Σh² and how many
        self.change = _Change(drive, projected, neurons)
        self.recent = (
            self.change.response
        )  # as the response to steady preactivations, to such as are alike for some steps
        self.before = self.change.response, self.recent  # a step ago

    def fork(self) -> Layer:
        """Return a copy that goes on by itself."""
        other = copy.copy(self)
        other.by_input, other.by_hidden = copy.copy(self.by_input), copy.copy(self.by_hidden)
        other.change = copy.copy(self.change)
        return other

    def step(self, second: float, alike: float, pair: float) -> tuple[float, ...]:
        """Go one step, and return one row of a `Course`: for an input's E[x²], the correlation of its private part with the last, and E[x x']."""
        drive, q, e = self.drive, self.q, self.e
        common = drive.by_input * pair + drive.by_hidden * max(e, 0.0) + drive.spread
        fresh = drive.by_input * max(second - pair, 0.0), drive.by_hidden * max(q - e, 0.0)
        a = drive.mean[:, None] + np.tile(common[:, None] ** 0.5 * self.shared, (1, 2))
        a = a + fresh[0][:, None] ** 0.5 * self.by_input.step(alike)
        a = a + fresh[1][:, None] ** 0.5 * self.by_hidden.step(self.memory)
        s = self.cell(a, self.c)
        self.before = self.change.response, self.recent
        self.recent = self.memory * s.state_by_state * self.recent + s.state_by_inputs
        self.change.step(s)
        self.taken = s
        return self._moments(s)

    @property
    def others(self) -> float:
        """E[h h'] of the average pair of the steps so far."""
        whole = float((self.total * self.total).mean()) * self.projected
        return (whole - self.squares) / (self.steps * (self.steps - 1)) if self.steps > 1 else self.e

    @property
    def change_memory(self) -> float:
        """The correlation of an independent change of h one step apart."""
        gain, *_, next_gain = self.change.gains[:4]
        return min(max(next_gain / gain, 0.0), 1.0) if gain > 0 else 0.0

    def gains_from(self, source: int, sources: int) -> list[tuple[float, float]]:
        """Return what the last step made of a change: E[δh²] and E[δc²], each beside its pair moment.

        Args:
            source: What changes, by 1 per element: 0 for the input, then h, then c where the cell keeps both apart.
            sources: How many there are.
        """
        s, n = self.taken, self.neurons
        assert s is not None
        drive = self.drive.by_input if source == 0 else self.drive.by_hidden
        inner = np.zeros_like(drive) if source == 2 else drive
        own = np.ones(1) if source == 2 or (source == 1 and sources == 2) else np.zeros(1)  # of the neuron itself
        to_state = np.concatenate([s.state_by_inputs, s.state_by_state[None]])
        to_hidden = s.hidden_by_state * to_state
        to_hidden[:-1] += s.hidden_by_inputs
        by = np.concatenate([inner, own])
        return [(float((by @ t**2).mean()), float((by @ (t[:, :n] * t[:, n:])).mean())) for t in (to_hidden, to_state)]

    def meetings(self) -> list[tuple[float, float]]:
        """Return what a change of the input adds to E[δh²] and E[δc²] where it meets those of earlier steps: the same one each time, and one alike nearby."""
        s, drive = self.taken, self.drive.by_input
        assert s is not None
        found = []
        for by, now in (
            (s.hidden_by_state, s.hidden_by_state * s.state_by_inputs + s.hidden_by_inputs),
            (1.0, s.state_by_inputs),
        ):
            earlier = (by * s.state_by_state * r for r in self.before)
            steady, nearby = (2.0 * float((drive @ (r * now)).mean()) for r in earlier)
            found.append((steady, nearby))
        return found

    def _moments(self, s: Step) -> tuple[float, ...]:
        h, n = s.hidden, self.neurons
        q, e = (float(t.mean()) * self.projected for t in (h * h, h[:n] * h[n:]))
        near = e if self.h is None else float((h * self.h).mean()) * self.projected
        self.memory = min(max((near - e) / (q - e), 0.0), 0.999) if q - e > 1e-12 else 0.0
        self.c, self.h, self.q, self.e = s.state, h, q, e
        self.total, self.squares, self.steps = self.total + h, self.squares + q, self.steps + 1
        mean = float(h.mean()) if self.projected == 1.0 else 0.0
        c = (float(t.mean()) for t in (s.state * s.state, s.state, s.state[:n] * s.state[n:]))
        return (q, near, e, self.others, mean, *c, *self.change.gains)


class _Change:
    """Second moments of the changes of state and output, for changes of the input that are private to a step or steady."""

    def __init__(self, drive: Drive, projected: float, neurons: int) -> None:
        self.drive, self.projected, self.neurons = drive, projected, neurons
        self.private = np.zeros(2 * neurons)  # E[δc²] of each neuron
        self.response = np.zeros((len(drive.mean), 2 * neurons))  # of the state to steady preactivations
        self.gains: tuple[float, ...] = (0.0,) * 6
        self.last = np.zeros(2 * neurons), np.zeros_like(self.response)  # E[δh δc], and the output's steady response

    def step(self, s: Step) -> None:
        """Go one step."""
        own, steady, pair = (self.drive.by_input + self.drive.by_hidden * gain for gain in self.gains[:3])
        carried = s.hidden_by_state * s.state_by_state * self.last[0]
        self.private = s.state_by_state**2 * self.private + own @ s.state_by_inputs**2
        self.response = s.state_by_state * self.response + s.state_by_inputs
        out = s.hidden_by_state * self.response + s.hidden_by_inputs
        half = out[:, : self.neurons], out[:, self.neurons :]
        seconds = s.hidden_by_state**2 * self.private + own @ s.hidden_by_inputs**2, steady @ out**2
        pairs = pair @ (half[0] * half[1]), carried, steady @ (out * self.last[1])
        self.last = s.hidden_by_state * self.private, out
        gains = (float(t.mean()) * self.projected for t in (*seconds, *pairs))
        self.gains = (*gains, float(self.private.mean()))


def _through_all(rows: Array, steps: int) -> Array:
    """Extend what was followed to all steps by its stationary state; what only near steps share gets rarer as they grow."""
    n, pair, others = len(rows), Course._fields.index("pair"), Course._fields.index("others")
    if n >= steps:
        return rows[:steps]
    longer = np.tile(rows[-AVERAGED:].mean(0), (steps - n, 1))
    longer[:, others] = longer[:, pair] + (rows[-1, others] - longer[:, pair]) * (n - 1) / np.arange(n, steps)
    return np.concatenate([rows, longer])


def recurring(c: float, steps: int) -> float:
    """Average c^(k-1) over pairs of steps k apart, of so many steps."""
    lags = np.arange(1, max(steps, 2))
    counts = max(steps, 2) - lags
    return float((c ** (lags - 1.0) * counts).sum() / counts.sum())
