"""Measure one real run: second moments of every weight op, of its gradient, and how far inputs differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stepzero.checking._spectrum import Scatter
from stepzero.errors import CheckError
from stepzero.network import Graph, Node, Value, replay

MOST_SITES = 4096  # (input, position) pairs that enter the correlation of sites


@dataclass(frozen=True, slots=True)
class Site:
    """A weight op to measure at: what it reads, what it makes, and the axis of its output channels."""

    node: Node
    input: int
    output: int
    channel: int
    centred: bool = False  # the rows of its weight sum to zero
    law: Callable[[Tensor], Scatter | None] | None = None  # of measured over expected, from the input


@dataclass
class Reading:
    """What was measured at one weight op."""

    input_map: Tensor | None = None  # x², averaged over the batch; shape (1, …)
    input: Tensor | None = None  # x itself, where the weight is centred
    scatter: Scatter | None = None  # how E[y²] scatters over weights for this input, where that is known exactly
    second: float = float("nan")  # E[y²]
    alike: float = 1.0  # mean over pairs of sites of their squared correlation: 1/sites … 1
    spread: float | None = None  # 1 - E[y y'] / E[y²], y' the same place for another input; None for a single input
    gradient: float | None = None  # E[(∂L/∂y)²]


def measure(
    graph: Graph, tensors: Mapping[int, Tensor], sites: Sequence[Site], *, backward: bool, generator: torch.Generator
) -> tuple[dict[int, Reading], list[Tensor]]:
    """Replay a graph on real tensors and return a reading for each site (by node id), and the outputs.

    Backward, the loss is the sum of the outputs times independent N(0, 1) noise, so that every output element has a
    gradient of second moment 1.

    Raises:
        CheckError: if an activation is not finite; it names the first place.
    """
    readings = {site.node.id: Reading() for site in sites}
    by_output = {site.output: site for site in sites}
    by_input: dict[int, list[Site]] = {}
    for site in sites:
        by_input.setdefault(site.input, []).append(site)

    def observe(value: Value, t: Tensor) -> Tensor:
        _note_input(t, by_input.get(value.id, ()), readings)
        site = by_output.get(value.id)
        if site is not None:
            _note_output(t, site, readings[site.node.id])
            if t.requires_grad:
                t.register_hook(_gradient_into(readings[site.node.id]))
        return t

    for leaf, t in tensors.items():
        _note_input(t, by_input.get(leaf, ()), readings)
    leaves = {k: t.detach() for k, t in tensors.items()}
    if backward:
        leaves = _sources_of_gradient(graph, leaves)
    with torch.set_grad_enabled(backward):
        outputs = replay(graph, leaves, observe)
        if backward:
            _project(outputs, generator)
    return readings, [t.detach() for t in outputs]


def _sources_of_gradient(graph: Graph, leaves: dict[int, Tensor]) -> dict[int, Tensor]:
    """Let gradients flow from the floating inputs; from the parameters where there are none (token models)."""
    inputs = [k for k in graph.inputs.values() if leaves[k].is_floating_point()]
    sources = set(inputs or graph.parameters.values())
    return {k: t.requires_grad_() if k in sources and t.is_floating_point() else t for k, t in leaves.items()}


def _note_input(t: Tensor, sites: Sequence[Site], readings: Mapping[int, Reading]) -> None:
    if sites:
        square = t.detach().double().square().mean(0, keepdim=True)
        for site in sites:
            readings[site.node.id].input_map = square
            readings[site.node.id].input = t.detach().double() if site.centred else None
            readings[site.node.id].scatter = None if site.law is None else site.law(t)


def _note_output(t: Tensor, site: Site, reading: Reading) -> None:
    y = t.detach().double()
    if not bool(torch.isfinite(y).all()):
        raise CheckError(
            f"{site.node.op} (at {site.node.module or 'the root'}) puts out values that are not finite: "
            f"the signal overflows, or reaches it as NaN"
        )
    reading.second = float(y.square().mean())
    rows = y.movedim(site.channel, 0).flatten(1)
    reading.alike = _alike(rows)
    if y.dim() > 1 and y.shape[0] > 1 and site.channel != 0 and reading.second > 0:
        b = y.shape[0]
        across = (float(y.sum(0).square().mean()) / b - reading.second) / (b - 1)
        reading.spread = 1.0 - across / reading.second


def _alike(rows: Tensor) -> float:
    """Estimate tr(Σ²)/tr(Σ)² of the sites' covariance Σ from independent channels (a U-statistic over their pairs)."""
    n, sites = rows.shape
    if sites > MOST_SITES:
        rows = rows[:, :: -(-sites // MOST_SITES)]
        sites = rows.shape[1]
    if n < 2:
        return 1.0
    gram = rows @ rows.T / sites
    own = gram.diagonal()
    between = float(gram.square().sum() - own.square().sum()) / (n * (n - 1))
    return min(1.0, max(between / max(float(own.mean()) ** 2, 1e-300), 1.0 / sites))


def _gradient_into(reading: Reading) -> object:
    def hook(g: Tensor) -> None:
        reading.gradient = float(g.detach().double().square().mean())

    return hook


def _project(outputs: Sequence[Tensor], generator: torch.Generator) -> None:
    """Send unit noise backward from every floating output."""
    total = None
    for y in dict.fromkeys(outputs):
        if y.requires_grad and (y.is_floating_point() or y.is_complex()):
            noise = torch.randn(y.shape, generator=generator, dtype=torch.float32).to(y.device, y.dtype)
            term = (y * noise).sum().real if y.is_complex() else (y * noise).sum()
            total = term if total is None else total + term
    if total is not None:
        total.backward()
