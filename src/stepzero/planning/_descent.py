"""The descent: levels of preactivations that minimise a goal's weighted squares, by a few walks of the signal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepzero.errors import PlanError
from stepzero.moments import Flow

from ._draft import Draft, Walked
from ._goals import Goal

Array = NDArray[np.float64]
WALKS = 40  # at most
CLOSE = 1e-4  # largest change of a log level that still matters
LONGEST = 3.0  # log step of one walk
SMALLEST = 0.02  # share of a step below which there is no way down
MEMORY = 6  # steps that the acceleration looks back
NOTHING = 0.01  # a log of second moments that nobody can tell from 0


class Reach(NamedTuple):
    """What a goal is judged by, in logs of second moments."""

    signal: float  # largest |log| of a signal over its target
    gradient: float  # |log| of the first gradient over the last

    def share(self, mark: Reach) -> float:
        """Return the larger of both numbers in units of a mark's; what is nobody's to tell from 0 counts as that."""
        return max(mine / max(its, NOTHING) for mine, its in zip(self, mark, strict=True))

    def uneven(self, mark: Reach) -> float:
        """Return by how much the gradient's share of a mark exceeds the signal's."""
        return self.gradient / max(mark.gradient, NOTHING) - self.signal / max(mark.signal, NOTHING)


HELD = Reach(0.0, 0.0)


@dataclass(frozen=True)
class Solved:
    """The walk that a plan is made of, and how it was found."""

    walked: Walked
    levels: Mapping[str, float] = field(default_factory=dict)
    objective: float = 0.0  # root mean square over the logs that the goal weighs
    start: float = 0.0  # the same when every preactivation met its target
    walks: int = 1
    settled: bool = True
    silent: bool = False  # whether no open weight gets a gradient, so that there is nothing to even out
    reach: Reach = HELD
    beside: str = ""  # what came of the comparison with the goal's rivals, in words


@dataclass(frozen=True)
class Problem:
    """The open weights of a goal and the ops that they speak through."""

    goal: Goal
    names: tuple[str, ...]
    nodes: Array  # of each op that an open weight feeds
    owner: Array  # index into names, for each such op
    targets: Array  # second moment that each op is held to

    @classmethod
    def of(cls, draft: Draft, goal: Goal, walked: Walked) -> Problem:
        """Find the weights whose level is free: chosen here, with neither a policy's target nor a recipe."""
        chooser, gradients = walked.chooser, walked.flow.gradients()
        heard = [n for n in chooser.users if walked.flow.second(walked.flow.graph.nodes[n].outputs[0]) != 0.0]
        alive = [n for n in heard if gradients.get(n, 0.0) > 0.0]
        bound = {chooser.users[n] for n in chooser.users if n in draft.targets or n in draft.pinned}
        names = tuple(
            name for name in dict.fromkeys(chooser.users[n] for n in alive)
            if name not in bound and chooser.choices[name].open
        )  # fmt: skip
        index = {name: i for i, name in enumerate(names)}
        nodes = [n for n in alive if chooser.users[n] in index]
        owner = [index[chooser.users[n]] for n in nodes]
        targets = [draft.targets[n].second_moment if n in draft.targets else 1.0 for n in nodes]
        return cls(goal, names, np.array(nodes, int), np.array(owner, int), np.array(targets))

    @property
    def shared(self) -> bool:
        """Whether a weight is used more than once."""
        return len(self.nodes) > len(self.names)

    def named(self, x: Array) -> dict[str, float]:
        """Return log levels as factors by parameter."""
        return dict(zip(self.names, np.exp(x).tolist(), strict=True))

    def read(self, flow: Flow) -> tuple[Array, Array]:
        """Return u and v at every op: logs of second moments, of signals over their targets and of gradients."""
        gradients = flow.gradients()
        seconds = np.array([flow.second(flow.graph.nodes[n].outputs[0]) for n in self.nodes])
        with np.errstate(divide="ignore", invalid="ignore"):  # a step too far loses all
            return np.log(seconds / self.targets), np.log(np.array([gradients.get(n, 0.0) for n in self.nodes]))

    def begin(self, walked: Walked) -> tuple[Array, Array]:
        """Return u and v of the first walk.

        Raises:
            PlanError: if a signal or a gradient is no positive number.
        """
        u, v = self.read(walked.flow)
        for i in np.flatnonzero(~(np.isfinite(u) & np.isfinite(v))):
            node = walked.flow.graph.nodes[self.nodes[i]]
            raise PlanError(
                f"goal {self.goal.name}: {node.op} (at {node.module or 'the root'}) has the signal {math.exp(u[i]):.4g} and the "
                f"gradient {math.exp(v[i]):.4g} (second moments), which no scale can even out: check what surrounds it, or plan "
                f"with goal='forward'."
            )
        return u, v

    @property
    def ends(self) -> tuple[int, int]:
        """Where the first and the last op stand."""
        return int(self.nodes.argmin()), int(self.nodes.argmax())

    def reach(self, flow: Flow) -> Reach:
        """Return how far signals leave their targets, and how far the first gradient is from the last."""
        u, v = self.read(flow)
        first, last = self.ends
        found = float(np.abs(u).max()), float(abs(v[first] - v[last]))
        return Reach(*(number if math.isfinite(number) else math.inf for number in found))

    def levels(self, flow: Flow) -> dict[str, float]:
        """Return the levels at each weight's first use, as factors."""
        u, _ = self.read(flow)
        _, first = np.unique(self.owner, return_index=True)
        return self.named(u[first])

    @property
    def weights(self) -> Array:
        """How much the gradient at each op counts."""
        w = np.full(len(self.nodes), self.goal.inside)
        w[list(self.ends)] = self.goal.ends
        return w

    def level(self, v: Array) -> float:
        """The level that gradients are held to: midway between the first and the last."""
        first, last = self.ends
        return float(v[first] + v[last]) / 2

    def objective(self, u: Array, v: Array) -> float:
        """Root of the mean of what the goal minimises."""
        return float(np.sqrt((self.weights * (v - self.level(v)) ** 2 + u**2).mean()))

    def step(self, x: Array, u: Array, v: Array) -> Array:
        """Return the best levels, if each moved its own signals and gradients alone: weighted means over a weight's uses."""
        w, count = self.weights, len(self.names)
        even = x[self.owner] + v  # the level at which a gradient would be 1
        best = x[self.owner] - u + w * (even - self.level(even))
        sums = np.bincount(self.owner, best, count) / np.bincount(self.owner, 1.0 + w, count)
        moved: Array = np.clip(sums, -self.goal.band, self.goal.band)
        return moved


@dataclass
class _Anderson:
    """The last few points and steps, and the combination of them that would step least (Walker & Ni 2011)."""

    points: list[Array] = field(default_factory=list)
    steps: list[Array] = field(default_factory=list)

    def proposal(self, x: Array, step: Array) -> Array:
        """Remember a point with its step, and return the step to take from there."""
        self.points, self.steps = [*self.points, x][-MEMORY:], [*self.steps, step][-MEMORY:]
        if len(self.points) == 1:
            return step
        dx, ds = (np.diff(np.array(past), axis=0).T for past in (self.points, self.steps))
        return np.asarray(step - (dx + ds) @ np.linalg.lstsq(ds, step, rcond=1e-6)[0])


def descend(draft: Draft, problem: Problem, walked: Walked) -> Solved:
    """Walk with better and better levels until they move no more; after a step that worsens the objective, half of it.

    Levels x = log E[y²] / target are those at a weight's first use; every walk meets them exactly, by choosing scales in order.
    A level xᵢ lowers its own log gradient vᵢ by as much and leaves the others, where what follows is homogeneous and held to its
    own level. That model gives the next x in closed form; Anderson acceleration (Walker & Ni 2011) makes up for where joins,
    saturating activations and shared weights depart from it, and no step is taken that worsens the objective.

    Args:
        draft: What is walked.
        problem: The open weights, and the goal whose objective counts.
        walked: The walk on which every level is 0.
    """
    x, band, memory, share = np.zeros(len(problem.names)), problem.goal.band, _Anderson(), 1.0
    u, v = problem.begin(walked)
    start = best = problem.objective(u, v)
    walks, settled = 1, False
    while walks < WALKS and share > SMALLEST and not settled:
        step = problem.step(x, u, v) - x
        if float(np.abs(step).max()) < CLOSE:
            settled = True
            break
        ahead = memory.proposal(x, step) if share == 1.0 else share * step
        trial = np.clip(x + np.clip(ahead, -LONGEST, LONGEST), -band, band)
        new = draft.walk(problem.named(trial))
        moved, walks = problem.read(new.flow), walks + 1
        reached = problem.objective(*moved)
        settled = 0 <= best - reached < CLOSE * best
        if not reached <= best:  # nor a number
            memory, share = _Anderson(), share / 2
            continue
        x, (u, v), walked, best, share = trial, moved, new, reached, min(1.0, 2 * share)
    return Solved(walked, problem.named(x), best, start, walks, settled, reach=problem.reach(walked.flow))
