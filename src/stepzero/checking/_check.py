"""check(): predicted against measured, layer by layer, with a verdict at a stated false-alarm rate."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stepzero.checking._measure import Site
from stepzero.checking._result import Check, CheckRow
from stepzero.checking._rows import check_rows
from stepzero.checking._runs import run_draws
from stepzero.checking._spectrum import scatter
from stepzero.errors import CheckError
from stepzero.laws import Kept, isometric
from stepzero.moments import RULES, Flow, OnUnknown, Rule, centred, kept_moments, propagate, weight_sites
from stepzero.network import Graph, ModelInputs, Node, capture, random_state_kept, real_inputs, unmoved
from stepzero.planning import Plan


@unmoved
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
    call = real_inputs(ModelInputs.of(inputs, model), seed=seed)
    graph = capture(model, call)
    flow = propagate(
        graph,
        _floating(model, call),
        _moments(model, graph, plan),
        rules=rules,
        on_unknown=on_unknown,
        isometric=[name for name, entry in (plan or {}).items() if isometric(entry.law, entry.shape)],
    )
    sites = [_site(flow, node, x, axis) for node, x, axis in weight_sites(flow)]
    if not sites:
        raise CheckError(f"{type(model).__name__} has no weight op that its inputs reach: there is nothing to check.")
    with random_state_kept():
        runs, notes = run_draws(model, graph, call, plan, sites, draws, seed, backward)
    rows = check_rows(graph, flow, sites, runs, tolerance, false_alarms)
    return Check(
        rows, _verdict(rows, draws, false_alarms), all(r.ok for r in rows), draws, false_alarms, tolerance, notes
    )


def _site(flow: Flow, node: Node, x: int, axis: int) -> Site:
    channels = flow.graph.values[node.outputs[0]].shape[axis]
    law = partial(scatter, flow, node, channels=channels, centred=centred(flow, node))
    return Site(node, x, node.outputs[0], axis, centred(flow, node), law)


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
    found, uses = {}, graph.uses()
    for name, v in graph.parameters.items():
        if name != graph.values[v].names[0]:
            continue
        entry = plan.get(name) if plan is not None else None
        if entry is not None and not isinstance(entry.law, Kept):
            mean, second = (torch.from_numpy(a).double() for a in entry.law.moments(entry.shape))
        else:
            mean, second = kept_moments(tensors[name], uses[v])
            if not bool(torch.isfinite(second).all()):
                raise CheckError(f"{name} has values that are not finite. Initialise it before checking.")
        found[name] = (mean, second)
    return found


def _verdict(rows: tuple[CheckRow, ...], draws: int, false_alarms: float) -> str:
    bad = [row for row in rows if not row.ok]
    runs = "one run" if draws == 1 else f"{draws} draws"
    what = f"{len(rows)} weight ops in {runs}, at a false-alarm rate of {false_alarms:.2g}"
    if not bad:
        return f"As predicted: {what}."
    return f"{len(bad)} of {what}, are not as predicted; the first is {bad[0].name}: {bad[0].message}."
