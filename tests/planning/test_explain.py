import math
import re

import pytest
from torch import nn

from stepzero import plan
from stepzero.errors import PlanError
from stepzero.laws import Kept, Normal
from stepzero.planning import Entry, Plan
from stepzero.reporting import Number, value


@pytest.fixture(scope="module")
def planned():
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)
    )
    return plan(net, (2, 3, 8, 8))


def test_every_equation_holds(planned):
    equations = [equation for step in planned.explain("3.weight").steps for equation in step.equations]
    compared = 0
    for equation in equations:
        known = [found for found in map(value, equation.sides) if found is not None]
        compared += len(known) > 1
        assert known == pytest.approx(known[-1:] * len(known), rel=1e-12)
        assert isinstance(equation.sides[-1], Number) or not known
    assert compared == 3  # E[x²], gain, std


def test_the_numbers_are_those_of_the_entry(planned):
    numbers, entry = planned.explain("3.weight").numbers, planned["3.weight"]
    assert numbers["fan_in"] == entry.fan_in == pytest.approx(16 * (10 / 4) ** 2)  # a 4×4 map: 2 + 3 + 3 + 2 taps
    assert numbers["std"] == entry.law.std
    assert numbers["std"] ** 2 * numbers["fan_in"] == pytest.approx(numbers["gain"] ** 2, rel=1e-12)


def test_it_is_told_in_words_where_the_parameter_stands_and_why_it_has_its_law(planned):
    told = str(planned.explain("3.weight"))
    assert "It feeds conv2d in 3" in told
    assert all(" ".join(reason.split()[:3]) in " ".join(told.split()) for reason in planned["3.weight"].reasons)
    assert re.search(r"E\[x²\] = E\[y²\] / \(fan_in · std²\)", told)


def test_a_parameter_without_a_fan_is_explained_by_its_reasons_alone(planned):
    explained = planned.explain("4.weight")
    assert [step.equations for step in explained.steps][:2] == [(), ()]
    assert "a norm starts as a pure normalisation" in str(explained)


def test_a_kept_parameter_is_explained_without_numbers():
    explained = Plan((Entry("position", (1, 8), "float32", Kept(), reasons=("no op is known",)),)).explain("position")
    assert explained.numbers == {}
    assert "no op is known" in str(explained)


def test_markdown_and_html_come_with_it(planned):
    explained = planned.explain("3.weight")
    assert "$$" in explained.to_markdown()
    assert "<math" in explained.to_html()
    assert math.isfinite(explained.to_dict()["std"])


def test_an_unknown_parameter_is_refused_with_the_nearest_names():
    one = Plan((Entry("features.0.weight", (4, 4), "float32", Normal(0.5)),))
    with pytest.raises(PlanError, match=r"no parameter 'feature\.0\.weight'\. Did you mean features\.0\.weight"):
        one.explain("feature.0.weight")
