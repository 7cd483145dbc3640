"""A rule is a value: what it finds becomes a finding, and a factor becomes a severity."""

from __future__ import annotations

import math

import pytest

from stepzero.checking import Finding, Spot
from stepzero.checking._rule import off, times


def test_a_spot_becomes_the_finding_of_its_rule():
    spot = Spot("warning", "conv.weight", "too small.", {"ratio": 0.1}, "Draw it.")
    assert spot.by("grouped-fan") == Finding("grouped-fan", "warning", "conv.weight", "too small.", {"ratio": 0.1}, "Draw it.")  # fmt: skip


@pytest.mark.parametrize(
    ("factor", "normalised", "severity"),
    [
        (1.0, False, "note"), (1.49, False, "note"), (1 / 1.49, False, "note"),
        (1.5, False, "warning"), (1 / 3.9, False, "warning"),
        (4.0, False, "error"), (1 / 4, False, "error"), (0.0, False, "error"),
        (31.0, True, "warning"), (31.0, None, "warning"), (0.0, None, "warning"),
    ],
)  # fmt: skip
def test_a_scale_is_an_error_only_where_no_normalisation_can_hide_it(factor, normalised, severity):
    assert off(factor, normalised) == severity


def test_factors_read_in_the_direction_that_is_larger_than_1():
    assert times(1 / 31) == "31x too small"
    assert times(math.sqrt(2)) == "1.41x too large"
