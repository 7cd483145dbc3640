"""The page of goals and policies: it lists what there is, with its numbers and sources, and its example runs."""

import re
from pathlib import Path

import pytest

from stepzero.planning import GOALS, POLICIES

PAGE = (Path(__file__).parents[1] / "docs" / "policies.md").read_text(encoding="utf-8")
ROWS = {
    cells[0]: cells[1:]
    for line in PAGE.splitlines()
    if line.startswith("| `") and (cells := [cell.strip(" `") for cell in line.strip("|").split("|")])
}


def test_the_page_lists_every_goal_and_policy_and_no_other():
    assert set(ROWS) == set(GOALS) | set(POLICIES)


@pytest.mark.parametrize("name", POLICIES)
def test_numbers_and_sources_are_those_of_the_values(name):
    number, _, source = ROWS[name]
    assert float(number or 0.0) == POLICIES[name].value
    assert source == POLICIES[name].source


def test_the_example_prints_what_it_says(capsys):
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    exec(code.group(1), {})  # the page is ours
    assert capsys.readouterr().out.strip() == code.group(1).strip().rpartition("# ")[2]
