"""Goals: values that say what gradients and signals weigh."""

from __future__ import annotations

import pytest

from stepzero.errors import PlanError
from stepzero.planning import GOALS, Goal


@pytest.mark.parametrize("name", GOALS)
def test_each_goal_says_what_it_asks_and_where_it_comes_from(name):
    goal = GOALS[name]
    assert goal.name == name
    assert goal.reason
    assert goal.source
    assert goal.follows == (name in ("backward", "balanced"))


@pytest.mark.parametrize("numbers", [(-1.0, 0.0, 1.0), (0.0, float("nan"), 1.0), (0.0, 0.0, -1.0)])
def test_a_goal_with_an_impossible_number_is_refused(numbers):
    with pytest.raises(PlanError, match="goal 'mine'"):
        Goal("mine", *numbers, reason="", source="")
