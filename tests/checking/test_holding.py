"""A parameter is known alike by its recorded law and by its values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from stepzero.checking._holding import Holding
from stepzero.network import build, parameter_slots, recording


def held(factory, name, *, recorded):
    torch.manual_seed(0)
    model = build(factory) if recorded else factory()
    origins = recording(model) if recorded else None
    return Holding(parameter_slots(model)[name], origins[name] if recorded else None)


FACTORIES = {
    "uniform": (lambda: nn.Linear(64, 256), "weight", 0.0, 1 / (3 * 64)),
    "normal, one row of zeros": (lambda: nn.Embedding(100, 64, padding_idx=3), "weight", 0.0, 0.99),
    "constant": (lambda: nn.LayerNorm(64), "weight", 1.0, 1.0),
    "packed": (lambda: nn.LSTM(32, 64), "weight_ih_l0", 0.0, 1 / (3 * 64)),
}


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "values"])
def test_moments_are_those_of_all_elements(name, recorded):
    factory, parameter, mean, second = FACTORIES[name]
    found = held(factory, parameter, recorded=recorded)
    exact = 1e-6 if recorded else 0.06  # 5 standard errors of the smallest
    assert found.moments[0] == pytest.approx(mean, abs=0.05 * (not recorded) + 1e-9)
    assert found.second == pytest.approx(second, rel=exact)
    assert found.has_std(math.sqrt(second - mean**2)) == (mean == 0)


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "values"])
def test_the_bound_of_a_uniform_law_is_known_and_a_normal_has_none(recorded):
    assert held(lambda: nn.Linear(64, 256), "weight", recorded=recorded).bound == pytest.approx(1 / 8, rel=1e-3)
    assert held(lambda: nn.Embedding(100, 64), "weight", recorded=recorded).bound is None


def test_constants_are_recognised_and_few_values_tell_less():
    assert held(lambda: nn.LayerNorm(8), "bias", recorded=True).constant == 0.0
    assert held(lambda: nn.LayerNorm(8), "weight", recorded=False).constant == 1.0
    assert held(lambda: nn.Linear(8, 8), "weight", recorded=False).constant is None
    few, many = (held(lambda n=n: nn.Linear(n, n), "weight", recorded=False).tolerance for n in (8, 256))
    assert few == pytest.approx(0.005 + 4 / math.sqrt(128))
    assert many < 0.02


def test_what_nobody_wrote_or_recorded_is_unknown():
    with torch.device("meta"):
        layer = nn.Linear(2, 2)
    unknown = Holding(parameter_slots(layer)["weight"])
    assert unknown.moments is None
    assert math.isnan(unknown.std)
    assert not unknown.has_std(1.0)
