"""From readings to rows: what passes, what fails, and which of three sentences is said."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from stepzero.checking._check import _moments, _site
from stepzero.checking._measure import Reading
from stepzero.checking._rows import _cumulative_z, check_rows
from stepzero.moments import propagate, weight_sites
from stepzero.network import ModelInputs, capture
from stepzero.planning import plan

WIDTH = 512


def rows_of(*, first: float = 1.0, second: float = 1.0, spread: float | None = None, runs: int = 1):
    """Return the rows of two linear layers whose outputs measured so many times what was expected of them alone."""
    net = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    made = plan(net, (4, WIDTH))
    call = ModelInputs.of((4, WIDTH), net)
    graph = capture(net, call)
    flow = propagate(graph, {}, _moments(net, graph, made))
    a, b = sites = [replace(_site(flow, *found), law=None) for found in weight_sites(flow)]
    one, half = torch.ones(1, WIDTH, dtype=torch.float64), torch.full((1, WIDTH), first / 2, dtype=torch.float64)
    run = {
        a.node.id: Reading(one, second=first, alike=0.25),
        b.node.id: Reading(half, second=first * second, alike=0.25, spread=spread, gradient=1.0),
    }
    return check_rows(graph, flow, sites, [run] * runs, tolerance=0.2, false_alarms=0.01)


def test_what_is_measured_as_predicted_passes_without_a_word():
    rows = rows_of()
    assert [(row.name, row.ok, row.message) for row in rows] == [("0.weight", True, ""), ("2.weight", True, "")]
    assert [row.ratio for row in rows] == pytest.approx([1.0, 1.0])
    assert [row.local_measured for row in rows] == pytest.approx([row.local_predicted for row in rows])
    assert rows[1].gradient_measured == 1.0


def test_a_wrong_weight_is_blamed_and_the_layer_behind_it_is_not():
    first, second = rows_of(first=2.0)
    assert first.message.startswith("its weight's scale is off: second moment 2 times what its law gives")
    assert second.message.startswith("second moment 2 is 2 times the prediction")
    assert second.message.endswith("though its own weight is as planned")
    assert abs(second.local_z) < 0.05  # as good as 0: the law of a mean square is skewed


def test_inputs_that_no_longer_differ_fail_although_the_scale_holds():
    first, second = rows_of(spread=1e-5)
    assert first.ok
    assert second.message == "inputs have collapsed: their outputs differ by a share of 1.0e-05 of the second moment"
    assert rows_of(spread=1e-3)[1].ok


def test_more_runs_make_the_same_error_more_certain():
    once, often = (rows_of(first=1.15, runs=runs)[0].local_z for runs in (1, 9))
    assert often == pytest.approx(3 * once, rel=0.15)  # √9, skewness aside


def test_the_cumulative_z_grants_the_tolerance_and_then_counts_in_deviations():
    assert _cumulative_z([1.19], 1.0, 0.0, 0.2) == 0.0
    variance = 0.04
    said = _cumulative_z([1.5], 1.0, variance, 0.2)
    assert said == pytest.approx((math.log(1.5) + variance / 2 - math.log(1.2)) / 0.2)
    assert _cumulative_z([1 / 1.5], 1.0, variance, 0.2) < 0


def test_a_predicted_silence_holds_only_if_nothing_is_heard():
    assert _cumulative_z([0.0], 0.0, 0.01, 0.2) == 0.0
    assert _cumulative_z([1.0], 0.0, 0.01, 0.2) == math.inf
    assert _cumulative_z([0.0], 1.0, 0.01, 0.2) == math.inf
