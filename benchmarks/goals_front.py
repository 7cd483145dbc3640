"""What no levels can beat: the evenest gradients of a net whose signals stay within a bound, every weight's level free.

python benchmarks/goals_front.py                        # the preactivation ResNet at the best signal of its rivals, and beyond
python benchmarks/goals_front.py --net alexnet --bound 2.46

For each bound s on |ln E[y²]| of every weight layer, residual branches among them, a coordinate search over the corners ±s of the box
(a first gradient over the last is monotone in each level) prints the smallest |ln| of the first over the last gradient. It starts from
several corners: where they agree, that is as even as it gets.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
import torch
from nets import HELD_OUT, ISSUE, Case
from numpy.typing import NDArray

from stepzero.moments import RULES
from stepzero.network import ModelInputs, capture
from stepzero.planning import GOALS
from stepzero.planning._descent import Problem
from stepzero.planning._draft import Draft, begin
from stepzero.planning._policies import read_policies

Signs = NDArray[np.float64]


def main() -> None:
    """Print the front, one line for each bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="preactivation resnet")
    parser.add_argument("--bound", type=float, action="append", help="largest |ln E[y²]|; repeatable")
    options = parser.parse_args()
    torch.set_num_threads(1)
    front = Front.of(next(case for case in ISSUE + HELD_OUT if case.name == options.net))
    print(f"{options.net}: {len(front.problem.names)} levels")
    for bound in options.bound or (1.05, 2.0, 2.35, 2.88):
        reached = [front.search(bound, start) for start in front.starts()]
        print(f"|ln E[y²]| ≤ {bound:.2f}: gradient {min(map(abs, reached)):.2f}  (from {len(reached)} corners: "
              f"{', '.join(f'{r:.2f}' for r in reached)})", flush=True)  # fmt: skip


@dataclass(frozen=True)
class Front:
    """A net whose levels are all free: no policy holds its residual branches."""

    draft: Draft
    problem: Problem

    @classmethod
    def of(cls, case: Case) -> Front:
        """Read a net."""
        goal = GOALS["balanced"]
        torch.manual_seed(0)
        model = case.model()
        call = ModelInputs.of(case.shape, model)
        policies = read_policies(None, "unit")
        made = begin(model, call, capture(model, call), None, policies, RULES, "probe", {}, goal)
        draft = replace(made, targets={}, pinned=frozenset())
        return cls(draft, Problem.of(draft, goal, draft.walk()))

    def starts(self) -> list[Signs]:
        """Corners to start from: the first layer low and the last high, what lies between low, high and in turns."""
        count = len(self.problem.names)
        between = (-np.ones(count), np.ones(count), np.where(np.arange(count) % 2, 1.0, -1.0))
        for signs in between:
            signs[0], signs[-1] = -1.0, 1.0
        return list(between)

    def search(self, bound: float, signs: Signs) -> float:
        """Return ln of the first gradient over the last at the best corner that turning single levels leads to; never beyond 0."""
        best, signs, turned = self.ratio(bound * signs), signs.copy(), True
        while turned:
            turned = False
            for i in range(signs.size):
                signs[i] = -signs[i]
                if self.ratio(bound * signs) > best + 1e-6:
                    best, turned = self.ratio(bound * signs), True
                else:
                    signs[i] = -signs[i]
                if best >= 0.0:
                    return 0.0  # some point between two corners has even gradients
        return best

    def ratio(self, x: Signs) -> float:
        """Return ln of the first gradient over the last at these levels."""
        _, v = self.problem.read(self.draft.walk(self.problem.named(x)).flow)
        first, last = self.problem.ends
        return float(v[first] - v[last])


if __name__ == "__main__":
    main()
