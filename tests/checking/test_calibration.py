"""The rates of `check` on random nets, thinned: `python benchmarks/calibration.py` runs 500."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from scipy.stats import binom

RIGHT, WRONG, RATE = 25, 10, 0.05


@pytest.fixture(scope="module")
def calibration():
    torch.set_num_threads(1)
    path = Path(__file__).parents[2] / "benchmarks" / "calibration.py"
    spec = importlib.util.spec_from_file_location("calibration", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["calibration"] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["calibration"]


def test_correct_random_nets_alarm_no_more_often_than_stated(calibration):
    rows = [calibration.measure(number, wrong=False) for number in range(1000, 1000 + RIGHT)]
    alarms = sum(calibration.fails(row, RATE) for row in rows)
    assert alarms <= binom.isf(1e-4, RIGHT, RATE)  # a right check trips this once in 10 000 suites


def test_a_layer_of_width_256_scaled_by_a_quarter_is_found_and_named(calibration):
    rows = [calibration.measure(number, wrong=True) for number in range(1000, 1000 + WRONG)]
    found = sum(row.where == row.scaled for row in rows)
    assert found >= binom.ppf(1e-4, WRONG, 0.9)  # a check of power 0.9 misses this once in 10 000 suites


def test_the_interval_is_that_of_clopper_and_pearson(calibration):
    assert calibration.interval(0, 100) == pytest.approx((0.0, 1 - 0.025 ** (1 / 100)))
    assert calibration.interval(100, 100) == pytest.approx((0.025 ** (1 / 100), 1.0))
