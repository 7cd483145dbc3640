"""Recurrent cells in mean field: one neuron of a wide layer, simulated through time, and how small changes travel in it.

A preactivation of a wide layer is Gaussian over its weights. Its covariance in time is that of the input and of the
hidden state, which the neurons themselves supply (dynamic mean field theory; Chen, Pennington & Schoenholz 2018,
arXiv:1806.05394). So a few thousand independent neurons with fixed random numbers are followed, twice each: both
copies share what all times have in common, and differ in what is private to a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NEURONS = 2048
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
    mean: Array
    state: Array  # E[c²]
    gain: Array  # second moment of the change of h per unit of independent changes of x at each step
    steady_gain: Array  # the same for one change at all steps
    pair_gain: Array  # and its pair moment at distant times
    next_gain: Array  # pair moment one step apart, of independent changes
    steady_next_gain: Array  # and of one change at all steps

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


def follow(
    cell: Callable[[Array, Array], Step], drive: Drive, x: Input, hidden: float, state: float, projected: float = 1.0
) -> Course:
    """Follow a layer through time.

    Args:
        cell: Its step.
        drive: Its preactivations; `by_hidden` is per unit of E[h²] of what is fed back.
        x: Its input.
        hidden: E[h²] before the first step.
        state: E[c²] before the first step.
        projected: E[(W h)²] / E[h²] where a projection of h is put out and fed back.
    """
    random = np.random.default_rng(0)
    count = len(drive.mean)
    shared = _Noise(random, (count, NEURONS)).now
    by_input, by_hidden = (_Noise(random, (count, 2 * NEURONS)) for _ in range(2))
    c = np.tile(_Noise(random, (NEURONS,)).now, 2) * state**0.5
    q, e, last, memory = hidden, hidden, None, 0.0
    change = _Change(drive, projected)
    rows: list[tuple[float, ...]] = []
    for second in x.second[: STEADY if np.ptp(x.second) <= 1e-9 * x.second.max() else None]:
        common = drive.by_input * x.pair + drive.by_hidden * max(e, 0.0) + drive.spread
        fresh = drive.by_input * max(second - x.pair, 0.0), drive.by_hidden * max(q - e, 0.0)
        a = drive.mean[:, None] + np.tile(common[:, None] ** 0.5 * shared, (1, 2))
        a = a + fresh[0][:, None] ** 0.5 * by_input.step(x.near) + fresh[1][:, None] ** 0.5 * by_hidden.step(memory)
        s = cell(a, c)
        c, h = s.state, s.hidden
        change.step(s)
        q, e = float((h * h).mean()) * projected, float((h[:NEURONS] * h[NEURONS:]).mean()) * projected
        near = e if last is None else float((h * last).mean()) * projected
        memory = min(max((near - e) / (q - e), 0.0), 0.999) if q - e > 1e-12 else 0.0
        last = h
        mean = float(h.mean()) if projected == 1.0 else 0.0
        rows.append((q, near, e, mean, float((c * c).mean()), *change.gains))
    return Course(*_through_all(np.array(rows), len(x.second)).T)


class _Change:
    """Second moments of the changes of state and output, for changes of the input that are private to a step or steady."""

    def __init__(self, drive: Drive, projected: float) -> None:
        self.drive, self.projected = drive, projected
        self.private = np.zeros(2 * NEURONS)  # E[δc²] of each neuron
        self.response = np.zeros((len(drive.mean), 2 * NEURONS))  # of the state to steady preactivations
        self.gains: tuple[float, ...] = (0.0,) * 5
        self.last = np.zeros(2 * NEURONS), np.zeros_like(self.response)  # E[δh δc], and the output's steady response

    def step(self, s: Step) -> None:
        """Go one step."""
        own, steady, pair = (self.drive.by_input + self.drive.by_hidden * gain for gain in self.gains[:3])
        carried = s.hidden_by_state * s.state_by_state * self.last[0]
        self.private = s.state_by_state**2 * self.private + own @ s.state_by_inputs**2
        self.response = s.state_by_state * self.response + s.state_by_inputs
        out = s.hidden_by_state * self.response + s.hidden_by_inputs
        half = out[:, :NEURONS], out[:, NEURONS:]
        seconds = s.hidden_by_state**2 * self.private + own @ s.hidden_by_inputs**2, steady @ out**2
        pairs = pair @ (half[0] * half[1]), carried, steady @ (out * self.last[1])
        self.last = s.hidden_by_state * self.private, out
        self.gains = tuple(float(t.mean()) * self.projected for t in (*seconds, *pairs))


def _through_all(rows: Array, steps: int) -> Array:
    """Extend what was followed to all steps by its stationary state."""
    if len(rows) >= steps:
        return rows[:steps]
    steady = rows[-AVERAGED:].mean(0)
    return np.concatenate([rows, np.tile(steady, (steps - len(rows), 1))])
