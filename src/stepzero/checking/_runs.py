"""Run a captured model on real tensors: as it stands, or drawn from a plan again and again, and say whether the graph is faithful."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stepzero.checking._measure import Reading, Site, measure
from stepzero.laws import Kept
from stepzero.network import Graph, ModelInputs, leaves, tensors_in
from stepzero.planning import Plan
from stepzero.streams import draw


def run_draws(
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
