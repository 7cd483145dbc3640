"""Expansions of whole maps, against one quadrature for each element."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stepzero.moments import _expansions
from stepzero.moments._expansions import expand_unique
from stepzero.moments._pointwise import Pointwise
from stepzero.theory._hermite import PiecewiseLinear, pair

RELU = Pointwise("relu", torch.relu, (0.0,), PiecewiseLinear(0.0, 0.0, (0.0,), (1.0,)))
SILU = Pointwise("silu", torch.nn.functional.silu)
HARD_SWISH = Pointwise("hardswish", torch.nn.functional.hardswish, (-3.0, 3.0))


@pytest.mark.parametrize("skewness", [0.0, 0.7])
@pytest.mark.parametrize("phi", [RELU, SILU, HARD_SWISH], ids=lambda phi: phi.key)
@pytest.mark.parametrize("centred", [True, False])
def test_a_map_of_many_different_places_is_as_if_each_were_expanded(
    phi: Pointwise, centred: bool, skewness: float
) -> None:
    generator = np.random.default_rng(0)
    sd = np.exp(generator.uniform(-0.7, 0.3, 800))
    mean = np.zeros(800) if centred else generator.uniform(-0.5, 0.5, 800)
    found, right = expand_unique(phi, mean, sd, skewness), phi.expand(mean, sd, skewness)
    np.testing.assert_allclose(found.second, right.second, rtol=1e-7)
    np.testing.assert_allclose(found.slope_second, right.slope_second, rtol=1e-7)
    rho = np.full(800, 0.8)
    for a, b in ((found.coefficients, right.coefficients), (found.slopes(sd), right.slopes(sd))):
        np.testing.assert_allclose(pair(a, a, rho), pair(b, b, rho), rtol=1e-7)


def test_a_homogeneous_function_of_a_centred_map_is_expanded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    expand = Pointwise.expand
    monkeypatch.setattr(Pointwise, "expand", lambda self, m, *rest: rows.append(m.size) or expand(self, m, *rest))
    expand_unique(RELU, np.zeros(500), np.linspace(0.5, 2.0, 500))
    assert rows == [1]


def test_places_that_are_zero_and_functions_that_are_rough_are_expanded_as_they_are() -> None:
    rough = Pointwise("step", lambda z: torch.where(torch.sin(40 * z) > 0, z, 0 * z))
    sd = np.linspace(0.01, 30.0, 200)
    sd[:7] = 0.0
    for phi in (SILU, rough):
        found, right = expand_unique(phi, 0 * sd, sd), phi.expand(0 * sd, sd)
        np.testing.assert_allclose(found.second, right.second, rtol=1e-12)


def test_very_many_rows_that_cannot_be_interpolated_are_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_expansions, "ACCURATE", 0.0)
    sd = np.exp(np.random.default_rng(1).uniform(-0.1, 0.1, 4000))
    found = expand_unique(SILU, 0 * sd, sd)
    np.testing.assert_allclose(found.second, SILU.expand(0 * sd, sd).second, rtol=3 * _expansions.ROUNDING)
