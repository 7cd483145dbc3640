"""check(): predicted against measured, layer by layer, with a verdict at a stated false-alarm rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from scipy.stats import chi2, norm
from torch import Tensor, nn

from stepzero import reporting
from stepzero.checking._measure import Reading, Site, measure
from stepzero.checking._noise import accumulate, expected_alike
from stepzero.errors import CheckError
from stepzero.laws import Kept
from stepzero.moments import (
    RULES,
    Flow,
    OnUnknown,
    Rule,
    centred,
    expected_mean_part,
    expected_output,
    propagate,
    weight_name,
    weight_sites,
    weights_of_one_output,
)
from stepzero.network import Graph, ModelInputs, capture, leaves, random_state_kept, real_inputs
from stepzero.planning import Plan
from stepzero.streams import draw

COLLAPSED = 1e-4  # spread below which a layer no longer tells inputs apart


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One weight op: what was predicted of its output, what was measured, and whether both agree."""

    name: str  # the weight's parameter, or the op where it has none of its own
    op: str
    module: str
    predicted: float  # E[y²]
    measured: float
    ratio: float
    local_predicted: float  # E[y²] / E[x²] of this op alone, from the measured input
    local_measured: float
    z: float  # of the cumulative ratio, in standard deviations that finite width allows
    local_z: float
    gradient_predicted: float | None
    gradient_measured: float | None
    spread: float | None  # 1 - E[y y'] / E[y²] over inputs
    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Check:
    """A model held against its prediction."""

    rows: tuple[CheckRow, ...]
    verdict: str
    ok: bool
    draws: int = 1
    false_alarms: float = 0.01
    tolerance: float = 0.2
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain data."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows], "notes": list(self.notes)}

    def to_markdown(self) -> str:
        """Return the check as Markdown."""
        return reporting.markdown(reporting.check_document(self))

    def to_html(self) -> str:
        """Return the check as an HTML section."""
        return reporting.html(reporting.check_document(self))

    def __str__(self) -> str:
        return reporting.text(reporting.check_document(self))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.to_html()


def check(
    model: nn.Module,
    inputs: Any,
    plan: Plan | None = None,
    *,
    tolerance: float = 0.2,
    false_alarms: float = 0.01,
    draws: int = 1,
    seed: int = 0,
    backward: bool = True,
    rules: Mapping[str, Rule] = RULES,
    on_unknown: OnUnknown = "probe",
) -> Check:
    """Run a model once, forward and backward, and hold it against the prediction.

    Two tests at every weight op. *Local*: given the measured input, the output's second moment is known exactly in
    expectation over the weight's law, so its error is that of n independent channels: this finds a wrong scale within one
    layer. *Cumulative*: the ratio of measured to predicted, whose log varies by what finite width allows (a fixed 10 %
    would fail 89 % of correct nets of width 64 and depth 10); only what exceeds that and `tolerance` fails.

    The model, its buffers, its mode and the global random state stay as they are.

    Args:
        model: The model with its values, in the mode to be checked.
        inputs: A batch (or a shape: then N(0, 1) is drawn). Two inputs or more show whether they stay apart.
        plan: The laws that the values were drawn from; None takes the second moments of the values themselves.
        tolerance: Relative error granted to the prediction itself, in the cumulative test.
        false_alarms: Probability that a correct model fails, over all tests of the check together.
        draws: More than 1 (needs a plan): measure that many draws, seeds `seed`, `seed` + 1 …; the model's values do not count.
        seed: Of the backward noise, of drawn inputs, and of the draws.
        backward: Measure gradients too.
        rules: Propagation rules.
        on_unknown: See `plan`.

    Raises:
        CheckError: if the model has meta parameters, or an activation is not finite.
        InputError: if the inputs do not fit.
    """
    if draws < 1 or (draws > 1 and plan is None):
        raise CheckError(f"draws={draws}: give a number ≥ 1, and a plan to draw from if it is more than 1.")
    _require_values(model)
    call = real_inputs(inputs, seed=seed)
    graph = capture(model, call)
    flow = propagate(
        graph,
        _floating(model, call),
        _moments(model, graph, plan),
        rules=rules,
        on_unknown=on_unknown,
    )
    sites = [Site(node, x, node.outputs[0], axis, centred(flow, node)) for node, x, axis in weight_sites(flow)]
    if not sites:
        raise CheckError(f"{type(model).__name__} has no weight op that its inputs reach: there is nothing to check.")
    with random_state_kept():
        runs, notes = _runs(model, graph, call, plan, sites, draws, seed, backward)
    rows = _rows(graph, flow, sites, runs, tolerance, false_alarms)
    return Check(
        rows, _verdict(rows, draws, false_alarms), all(r.ok for r in rows), draws, false_alarms, tolerance, notes
    )


def _require_values(model: nn.Module) -> None:
    hollow = [name for name, p in model.named_parameters() if p.device.type == "meta"]
    hollow += [name for name, b in model.named_buffers() if b.device.type == "meta"]
    if hollow:
        raise CheckError(
            f"{len(hollow)} parameters or buffers are on the meta device ({hollow[0]} …) and have no values to check. "
            f"Materialise the model first."
        )


def _floating(model: nn.Module, call: ModelInputs) -> dict[str, Tensor]:
    named = call.named(model.forward)
    return {name: t for name, t in named.items() if isinstance(t, Tensor) and t.is_floating_point()}


def _moments(model: nn.Module, graph: Graph, plan: Plan | None) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean and second moment of each parameter: by the plan, or of its values."""
    tensors = dict(model.named_parameters(remove_duplicate=False))
    found = {}
    for name, v in graph.parameters.items():
        if name != graph.values[v].names[0]:
            continue
        entry = plan.get(name) if plan is not None else None
        if entry is not None and not isinstance(entry.law, Kept):
            mean, second = (torch.from_numpy(a).double() for a in entry.law.moments(entry.shape))
        else:
            t = tensors[name].detach().double()
            mean, second = t.mean(), t.square().mean()
            if not bool(torch.isfinite(second)):
                raise CheckError(f"{name} has values that are not finite. Initialise it before checking.")
        found[name] = (mean, second)
    return found


def _runs(
    model: nn.Module,
    graph: Graph,
    call: ModelInputs,
    plan: Plan | None,
    sites: list[Site],
    draws: int,
    seed: int,
    backward: bool,
) -> tuple[list[dict[int, Reading]], tuple[str, ...]]:
    """Measure each draw; the first is also held against the model's own forward pass."""
    tensors = leaves(graph, model, call)
    runs = []
    notes: tuple[str, ...] = ()
    for i in range(draws):
        generator = torch.Generator().manual_seed(seed + i)
        torch.manual_seed(seed + i)
        drawn = tensors if draws == 1 else {**tensors, **_drawn(graph, plan, tensors, seed + i)}
        readings, outputs = measure(graph, drawn, sites, backward=backward, generator=generator)
        runs.append(readings)
        if draws == 1:
            torch.manual_seed(seed)
            notes = _faithful(model, call, outputs)
    return runs, notes


def _drawn(graph: Graph, plan: Plan | None, tensors: Mapping[int, Tensor], seed: int) -> dict[int, Tensor]:
    """Draw a plan's parameters without touching the model."""
    found = {}
    for name, entry in (plan or {}).items():
        v = graph.parameters.get(name)
        if v is not None and not isinstance(entry.law, Kept):
            like = tensors[v]
            values = draw(entry.law, entry.shape, seed, name, "float32")
            found[v] = torch.from_numpy(values).to(like.device, like.dtype)
    return found


def _faithful(model: nn.Module, call: ModelInputs, outputs: list[Tensor]) -> tuple[str, ...]:
    """Run the model itself, with its buffers put back, and say whether the measured graph did the same."""
    from stepzero.network import tensors_in

    before = {name: b.detach().clone() for name, b in model.named_buffers()}
    try:
        with torch.no_grad():
            own = [t for t in tensors_in(model(*call.args, **call.kwargs)) if t.is_floating_point()]
    finally:
        with torch.no_grad():
            for name, b in model.named_buffers():
                b.copy_(before[name])
    ours = [t for t in outputs if t.is_floating_point()]
    if len(own) == len(ours) and all(_close(a, b) for a, b in zip(own, ours, strict=True)):
        return ()
    return (
        "the model's own forward pass differs from the recorded graph (data-dependent control flow or noise of its own): the check is that of the graph",
    )


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    scale = float(a.double().abs().max()) or 1.0
    return float((a.double() - b.double()).abs().max()) <= 1e-3 * scale


def _rows(
    graph: Graph,
    flow: Flow,
    sites: list[Site],
    runs: list[dict[int, Reading]],
    tolerance: float,
    false_alarms: float,
) -> tuple[CheckRow, ...]:
    channels = {s.node.id: graph.values[s.output].shape[s.channel] for s in sites}
    alike = {s.node.id: _alike(flow, s, runs) for s in sites}
    noise = accumulate(flow, alike, channels)
    gradients = flow.gradients()
    limit = float(norm.isf(false_alarms / (2 * 2 * len(sites))))  # two tests at each site, two-sided
    return tuple(
        _row(
            graph,
            flow,
            s,
            [r[s.node.id] for r in runs],
            noise[s.node.id],
            channels[s.node.id] / alike[s.node.id],
            gradients,
            tolerance,
            limit,
        )
        for s in sites
    )


def _alike(flow: Flow, site: Site, runs: list[dict[int, Reading]]) -> float:
    """The largest of three: measured (few channels do it badly), predicted, and what so few weights leave possible.

    The covariance of the sites has no more independent directions than an output has weights, so a depthwise 3×3
    output is never less alike than 1/9.
    """
    measured = _mean([run[site.node.id].alike for run in runs])
    return max(measured, expected_alike(flow.signals[site.output]), 1.0 / weights_of_one_output(flow, site.node))


def _row(
    graph: Graph,
    flow: Flow,
    site: Site,
    readings: list[Reading],
    noise: tuple[float, float],
    degrees: float,
    gradients: Mapping[int, float],
    tolerance: float,
    limit: float,
) -> CheckRow:
    node = site.node
    predicted, measured = flow.second(site.output), _mean([r.second for r in readings])
    expected = [_expected(flow, site, r) for r in readings if r.input_map is not None]
    inputs = [float(r.input_map.mean()) for r in readings if r.input_map is not None]
    local_z = _local_z([r.second for r in readings], expected, [degrees] * len(expected))
    z = _cumulative_z([r.second for r in readings], predicted, noise[1], tolerance)
    spreads = [r.spread for r in readings if r.spread is not None]
    spread = _mean(spreads) if spreads else None
    local = _mean(expected) / _mean(inputs) if inputs and _mean(inputs) > 0 else 0.0
    local_measured = measured / _mean(inputs) if inputs and _mean(inputs) > 0 else 0.0
    message = _message(predicted, measured, local, local_measured, z, local_z, spread, limit)
    grads = [r.gradient for r in readings if r.gradient is not None]
    return CheckRow(
        weight_name(flow, node), node.op, node.module, predicted, measured, measured / predicted if predicted else math.nan,
        local, local_measured, z, local_z, gradients.get(node.id), _mean(grads) if grads else None,
        spread, not message, message,
    )  # fmt: skip


def _expected(flow: Flow, site: Site, reading: Reading) -> float:
    """E[y²] given the measured input; a weight whose rows sum to zero does not see the mean of its window."""
    assert reading.input_map is not None
    square = expected_output(flow, site.node, reading.input_map)
    if reading.input is None:
        return square
    return square - expected_mean_part(flow, site.node, reading.input)


def _local_z(measured: list[float], expected: list[float], degrees: list[float]) -> float:
    """z of Σ measured/expected, each a mean of χ² with `degrees` degrees of freedom (Satterthwaite 1946)."""
    pairs = [(m, e, d) for m, e, d in zip(measured, expected, degrees, strict=True) if e > 0]
    if not pairs:
        return 0.0
    total = sum(d * m / e for m, e, d in pairs)
    nu = sum(d for *_, d in pairs)
    if total > nu:
        return float(norm.isf(max(chi2.sf(total, nu), 1e-300)))
    return -float(norm.isf(max(chi2.cdf(total, nu), 1e-300)))


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


def _verdict(rows: tuple[CheckRow, ...], draws: int, false_alarms: float) -> str:
    bad = [row for row in rows if not row.ok]
    runs = "one run" if draws == 1 else f"{draws} draws"
    what = f"{len(rows)} weight ops in {runs}, at a false-alarm rate of {false_alarms:.2g}"
    if not bad:
        return f"As predicted: {what}."
    return f"{len(bad)} of {what}, are not as predicted; the first is {bad[0].name}: {bad[0].message}."


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
