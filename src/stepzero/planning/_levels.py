"""How loud each weight should speak: the levels of preactivations that a goal asks for, held against the usual recipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ._descent import Problem, Reach, Solved, descend
from ._draft import Draft, Walked
from ._goals import Goal
from ._rivals import best, rivals

FIRM = 1e4  # weight of the first and the last gradient under which only the band keeps them apart
TRIALS = 3  # bands that are tried on the way to a mark
MET = 1.0 + 1e-6  # share of a mark at which nothing is lost to it
EVEN = 0.02  # difference of both shares of a mark that needs no further trial


def solve(draft: Draft, goal: Goal) -> Solved:
    """Return the walk whose levels minimise the goal's objective, and lose to none of its rivals where that is possible."""
    walked = draft.walk()
    problem = Problem.of(draft, goal, walked)
    if not problem.names or not (goal.follows or problem.shared):
        return Solved(walked, silent=goal.follows and not problem.names)
    solved = descend(draft, problem, walked)
    return _beside(draft, problem, walked, solved) if goal.rivals else solved


def told(goal: Goal, solved: Solved) -> tuple[str, ...]:
    """Return how the levels were found, as notes of a plan."""
    if solved.silent:
        return (
            f"goal {goal.name}: no gradient reaches an open weight (a zero stands before the output): planned as forward",
        )
    if solved.walks == 1:
        return ()
    what = (
        "logs of gradients and signals"
        if goal.follows
        else "logs of the signals of weights that are used more than once"
    )
    end = "settled" if solved.settled else "not settled"
    return (
        f"goal {goal.name}: root mean square of the {what} {solved.start:.4g} → {solved.objective:.4g}, {end} after {solved.walks} walks"
        f"{solved.beside}",
    )


def _beside(draft: Draft, problem: Problem, walked: Walked, solved: Solved) -> Solved:
    """Hold a solution against the best of all rivals, and then against single ones, those with the evenest gradients first.

    A solution that loses makes way for the one whose larger share of the mark is smallest. Where that one loses too, the two
    best numbers, of different rivals, exclude each other; then one rival is met on both counts, if need be by its own levels (where
    activations saturate the descent may find no better), and so no rival is better on both.
    """
    met = rivals(draft, problem, walked)
    tried, top = [solved], best(met)
    for mark in dict.fromkeys((top, *sorted(met, key=lambda mark: mark.gradient))):
        for candidate in _candidates(draft, problem, walked, solved, mark, met.get(mark)):
            tried += [candidate] if candidate is not solved else []
            if candidate.reach.share(mark) <= MET:
                return _compared(problem, candidate, top, tried)
    return _compared(problem, solved, top, tried)


def _candidates(
    draft: Draft, problem: Problem, walked: Walked, solved: Solved, mark: Reach, own: Mapping[str, float] | None
) -> Iterator[Solved]:
    """Yield solutions that may meet a mark, the least disturbing first; `own` are the levels of a single rival."""
    yield solved
    for inside in (
        0.0,
        problem.goal.inside,
    ):  # the layers between at their targets, or with the evener gradients that norms then pass on
        yield _shared(draft, problem, walked, mark, inside)
    if own is not None:
        new = draft.walk(own)
        yield Solved(new, own, walks=2, reach=problem.reach(new.flow))


def _compared(problem: Problem, winner: Solved, top: Reach, tried: list[Solved]) -> Solved:
    """Return a solution with what all of them cost, and with both its numbers beside the best of the rivals, in words."""
    both = "" if winner.reach.share(top) <= MET else ", which no levels were found to meet at once"
    beside = (
        f"; largest |ln E[y²]| {winner.reach.signal:.3g}, |ln| of the first over the last gradient {winner.reach.gradient:.3g} "
        f"(Kaiming's modes and torch's default at best: {top.signal:.3g} and {top.gradient:.3g}{both})"
    )
    objective = problem.objective(*problem.read(winner.walked.flow))
    walks = 1 + sum(s.walks - 1 for s in tried) + len(problem.goal.rivals)
    return replace(winner, objective=objective, start=tried[0].start, walks=walks, beside=beside)


def _shared(draft: Draft, problem: Problem, walked: Walked, mark: Reach, inside: float) -> Solved:
    """Return the solution of which both numbers are the same share of a mark, as nearly as a few bands tell.

    On the front between held signals and even gradients one number falls as the other grows (in a chain twice as fast), so that
    the larger share is smallest where they are equal: regula falsi over the band, between 0 and the mark.
    """
    firm = replace(problem.goal, inside=inside, ends=FIRM, band=mark.signal)
    solved = descend(draft, replace(problem, goal=firm), walked)
    low, high, walks = problem.reach(walked.flow), solved.reach, solved.walks
    for _ in range(TRIALS):
        over, under = low.uneven(mark), high.uneven(mark)
        if under >= 0.0 or over - under < EVEN:
            break
        band = low.signal + max(over, 0.0) / (max(over, 0.0) - under) * (high.signal - low.signal)
        trial = descend(draft, replace(problem, goal=replace(firm, band=band)), walked)
        walks += trial.walks - 1
        solved = min(solved, trial, key=lambda candidate: candidate.reach.share(mark))
        if abs(trial.reach.uneven(mark)) < EVEN:
            break
        low, high = (trial.reach, high) if trial.reach.uneven(mark) > 0.0 else (low, trial.reach)
    return replace(solved, walks=walks)
