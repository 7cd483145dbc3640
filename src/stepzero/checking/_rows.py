"""From readings to rows: two tests at each weight op, and what a failure means."""

from __future__ import annotations

import math

from scipy.stats import norm

from stepzero.checking._measure import Reading, Site
from stepzero.checking._noise import accumulate, expected_alike
from stepzero.checking._result import CheckRow
from stepzero.checking._spectrum import Scatter, z_of
from stepzero.moments import (
    Flow,
    expected_mean_part,
    expected_output,
    weight_name,
    weight_scatter,
    weights_of_one_output,
)
from stepzero.network import Graph

COLLAPSED = 1e-4  # spread below which a layer no longer tells inputs apart


def check_rows(
    graph: Graph,
    flow: Flow,
    sites: list[Site],
    runs: list[dict[int, Reading]],
    tolerance: float,
    false_alarms: float,
) -> tuple[CheckRow, ...]:
    """Return a row for each site, from its readings in each run."""
    channels = {s.node.id: graph.values[s.output].shape[s.channel] for s in sites}
    readings = {s.node.id: [run[s.node.id] for run in runs] for s in sites}
    weights = {s.node.id: weight_scatter(flow, s.node) for s in sites}
    alike = {s.node.id: _alike(flow, s, channels[s.node.id], readings[s.node.id]) for s in sites}
    noise = accumulate(flow, {n: k + channels[n] * weights[n] / 2 for n, k in alike.items()}, channels)
    gradients = flow.gradients()
    limit = float(norm.isf(false_alarms / (2 * 2 * len(sites))))  # two tests at each site, two-sided
    rows = []
    for s in sites:
        mine = readings[s.node.id]
        usual = Scatter.alike(channels[s.node.id], alike[s.node.id])
        laws = [(r.scatter or usual).wider(weights[s.node.id]) for r in mine if r.input_map is not None]
        rows.append(_row(flow, s, mine, laws, noise[s.node.id][1], gradients.get(s.node.id), tolerance, limit))
    return tuple(rows)


def _alike(flow: Flow, site: Site, channels: int, readings: list[Reading]) -> float:
    """Return the mean squared correlation of the sites of an output: exact where the spectrum is known.

    Else the largest of three: measured (few channels do it badly), predicted, and what so few weights leave possible. The covariance of
    the sites has no more independent directions than an output has weights, so a depthwise 3×3 output is never less alike than 1/9.
    """
    exact = [r.scatter.variance for r in readings if r.scatter is not None]
    if exact:
        return channels * _mean(exact) / 2
    measured = _mean([r.alike for r in readings])
    return max(measured, expected_alike(flow.signals[site.output]), 1.0 / weights_of_one_output(flow, site.node))


def _row(
    flow: Flow,
    site: Site,
    readings: list[Reading],
    laws: list[Scatter],
    variance: float,
    gradient: float | None,
    tolerance: float,
    limit: float,
) -> CheckRow:
    node = site.node
    predicted, measured = flow.second(site.output), _mean([r.second for r in readings])
    expected = [_expected(flow, site, r) for r in readings if r.input_map is not None]
    inputs = [float(r.input_map.mean()) for r in readings if r.input_map is not None]
    local_z = _local_z([r.second for r in readings], expected, laws)
    z = _cumulative_z([r.second for r in readings], predicted, variance, tolerance)
    spreads = [r.spread for r in readings if r.spread is not None]
    spread = _mean(spreads) if spreads else None
    local = _mean(expected) / _mean(inputs) if inputs and _mean(inputs) > 0 else 0.0
    local_measured = measured / _mean(inputs) if inputs and _mean(inputs) > 0 else 0.0
    message = _message(predicted, measured, local, local_measured, z, local_z, spread, limit)
    grads = [r.gradient for r in readings if r.gradient is not None]
    return CheckRow(
        weight_name(flow, node), node.op, node.module, predicted, measured, measured / predicted if predicted else math.nan,
        local, local_measured, z, local_z, gradient, _mean(grads) if grads else None, spread, not message, message,
    )  # fmt: skip


def _expected(flow: Flow, site: Site, reading: Reading) -> float:
    """E[y²] given the measured input; a weight whose rows sum to zero does not see the mean of its window."""
    assert reading.input_map is not None
    square = expected_output(flow, site.node, reading.input_map)
    if reading.input is None:
        return square
    return square - expected_mean_part(flow, site.node, reading.input)


def _local_z(measured: list[float], expected: list[float], laws: list[Scatter]) -> float:
    """z of the mean of measured/expected, each of which scatters by its own law."""
    pairs = [(m / e, law) for m, e, law in zip(measured, expected, laws, strict=True) if e > 0]
    return z_of([ratio for ratio, _ in pairs], [law for _, law in pairs]) if pairs else 0.0


def _cumulative_z(measured: list[float], predicted: float, variance: float, tolerance: float) -> float:
    """z of the mean log ratio, after the tolerance is granted; E[log] = -variance/2."""
    if predicted <= 0 or any(m <= 0 for m in measured):
        return 0.0 if predicted <= 0 and all(m <= 0 for m in measured) else math.inf
    shift = _mean([math.log(m / predicted) for m in measured]) + variance / 2
    excess = max(0.0, abs(shift) - math.log1p(tolerance))
    return math.copysign(excess / math.sqrt(max(variance / len(measured), 1e-12)), shift)


def _message(
    predicted: float, measured: float, local: float, local_measured: float, z: float, local_z: float,
    spread: float | None, limit: float,
) -> str:  # fmt: skip
    if abs(local_z) > limit:
        return f"its weight's scale is off: second moment {local_measured / local:.3g} times what its law gives (z = {local_z:+.1f})"
    if abs(z) > limit:
        times = f"{measured / predicted:.3g} times the prediction" if predicted else "predicted zero"
        return f"second moment {measured:.3g} is {times} (z = {z:+.1f}), though its own weight is as planned"
    if spread is not None and spread < COLLAPSED:
        return f"inputs have collapsed: their outputs differ by a share of {spread:.1e} of the second moment"
    return ""


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
