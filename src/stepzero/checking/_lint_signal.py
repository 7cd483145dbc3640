"""Rules about the signal as predicted under the model's own laws: they need example inputs, and no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import prod

import torch

from stepzero.checking._findings import Severity
from stepzero.checking._rule import Spot
from stepzero.checking._stock import Stock
from stepzero.moments import MOVES, Signal, input_argument, weight_name, weight_sites
from stepzero.network import Node

FADED, FAINT = 1e-4, 1e-8  # second moments where a warning, and where an error begins; their inverses above
BLURRED, BLIND = 1e-3, 1e-6  # the same for how far inputs differ
CARRYING = MOVES | {"dropout", "feature_dropout", "relu"}  # a stream stays itself through these
LARGEST = {torch.float16: 65504.0}
NORMALISABLE = 1e-6  # below that, the eps of a normalisation outweighs the variance
LAST = 3  # layers at the end that must be blurred: a head alone may read a class token, the same for every input
SIGMAS = 6.0  # the largest of many activations stands about that far out


Ways = tuple[tuple[str, Callable[[float], bool], Callable[[Iterable[float]], float]], ...]
GROWS: Ways = (("grows", lambda x: x > 1 / FADED, max),)
BOTH: Ways = (("falls", lambda x: x < FADED, min), *GROWS)


def unused(stock: Stock) -> Iterator[Spot]:
    """Parameters that this forward pass never reads, or that no output depends on."""
    if stock.graph is None:
        return
    for names, what in (
        (stock.graph.unused, "the forward pass never reads"),
        (stock.graph.dead, "is read, but no output depends on"),
    ):
        if names:
            message = f"{len(names)} parameters that {what} ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})."
            yield Spot("note", names[0], message, {"count": len(names)}, "Remove them, or check the mode and inputs.")


def scale(stock: Stock) -> Iterator[Spot]:
    """The second moment of some layer's output is out of all proportion."""
    seconds = [
        (name, second)
        for name, node, _, second in _sites(stock)
        if second > 0 and not _joins_a_larger(stock, node, second) and not (second < 1 and _is_head(stock, node))
    ]
    yield from _lasting(seconds, "output")


def gradients(stock: Stock) -> Iterator[Spot]:
    """Gradients reach the first layers magnified or not at all: E‖g‖² against that of the last weight."""
    if stock.flow is None or stock.graph is None:
        return
    found = stock.flow.gradients()
    energies = [
        (name, found[node.id] * prod(stock.graph.values[node.outputs[0]].shape))
        for name, node, _, second in _sites(stock)
        if found.get(node.id, 0.0) > 0 and not _reset(stock, name, second)
    ]
    if len(energies) > sum(1 for _ in _sites(stock)) / 2:  # else normalisations decide, and the rest are gates
        last = energies[-1][1]
        ratios = [(n, e / last) for n, e in reversed(energies)]
        yield from _lasting(ratios, "gradient", GROWS if stock.skips else BOTH)  # a skip hands gradients on


def collapse(stock: Stock) -> Iterator[Spot]:
    """Inputs become alike: E[y y'] / E[y²] → 1 for another input, and the net no longer tells them apart."""
    if stock.flow is None:
        return
    spreads = []
    for name, _, signal, second in _sites(stock):
        if second > 0:
            spreads.append((name, max(1.0 - signal.average(signal.across) / second, 1e-16)))
    blurred = _tail(spreads, lambda spread: spread < BLURRED)
    if len(blurred) >= LAST and spreads[0][1] > 10 * BLURRED:
        name, spread = min(blurred, key=lambda pair: pair[1])
        message = f"outputs for two inputs differ by a share of {spread:.1e} of their second moment; the last {len(blurred)} of {len(spreads)} layers are below {BLURRED:g}."
        severity: Severity = "error" if spread < BLIND else "warning"
        yield Spot(severity, name, message, {"spread": spread}, "Start biases from zero, and draw weights by a plan.")


def residual_growth(stock: Stock) -> Iterator[Spot]:
    """Branches of gain g on a stream without normalisation multiply its second moment by 1 + g each: 3 to the L for He's."""
    if stock.flow is None:
        return
    for stream in _streams(stock):
        seconds = [stock.flow.second(node.outputs[0]) for node in stream]
        if len(stream) >= 3 and seconds[0] > 0 and (grown := seconds[-1] / seconds[0]) > 100:
            each = grown ** (1 / (len(stream) - 1))
            message = f"the residual stream grows {each:.3g}-fold with each of {len(stream)} blocks, {grown:.2g} times in all."
            fix = "Scale the last weight of each branch by 1/√depth, or start it from zero: stepzero.plan does."
            severity: Severity = "error" if grown > 1 / FAINT else "warning"
            yield Spot(severity, stream[-1].module or "the root", message, {"growth": grown, "each": each}, fix)


def _streams(stock: Stock) -> list[list[Node]]:
    """Return chains of residual joins, each of which adds to what the one before it made."""
    assert stock.graph is not None
    assert stock.flow is not None
    at: dict[int, list[Node]] = {}  # value → the stream that it carries
    streams: list[list[Node]] = []
    joins = {node.id for node in stock.joins}
    for node in stock.graph.nodes:
        carried = next((at[v] for v in node.inputs if v in at), None)
        if node.id in joins and node.outputs[0] in stock.flow.signals:
            if carried is None:
                carried = []
                streams.append(carried)
            carried.append(node)
        if carried is not None and (node.id in joins or node.op in CARRYING):
            at.update(dict.fromkeys(node.outputs, carried))
    return streams


def loud_head(stock: Stock) -> Iterator[Spot]:
    """Logits of variance v start a classifier about v/2 above ln(classes), sure of random answers."""
    if stock.graph is None:
        return
    for name, node, _, second in _sites(stock):
        logits = set(node.outputs) & set(stock.graph.outputs)
        rank = len(stock.graph.values[node.outputs[0]].shape)
        if logits and rank == 2 and second > 4:
            message = f"outputs have variance {second:.3g}: as logits, a loss about {second / 2:.3g} above ln(classes) at the start."
            yield Spot("warning", name, message, {"second_moment": second}, "Draw the head smaller, or from zero.")


def stuck(stock: Stock) -> Iterator[Spot]:
    """A weight of zeros that reads zeros: neither it nor what feeds it ever gets a gradient."""
    if stock.flow is None:
        return
    for name, node, _, _ in _sites(stock):
        x = stock.flow.signals.get(_input(node))
        held = stock.holdings.get(name)
        if held is not None and held.constant == 0.0 and x is not None and x.average(x.second) == 0:
            message = "it is zero and so is its input: it never gets a gradient, and lets none through."
            yield Spot("error", name, message, {}, "Draw one of the two at random (LoRA: A random, B zero).")


def overflow(stock: Stock) -> Iterator[Spot]:
    """Activations beyond the largest number of their type."""
    if stock.graph is None:
        return
    for name, node, _, second in _sites(stock):
        largest = LARGEST.get(stock.graph.values[node.outputs[0]].dtype)
        if largest is not None and SIGMAS * second**0.5 > largest:
            message = f"outputs of standard deviation {second**0.5:.3g} overflow float16, which ends at {largest:g}."
            yield Spot(
                "error", name, message, {"second_moment": second}, "Scale the weights by a plan, or use bfloat16."
            )


def _sites(stock: Stock) -> Iterator[tuple[str, Node, Signal, float]]:
    """Yield each weight op with its weight's name, its output's signal and second moment."""
    if stock.flow is None:
        return
    for node, _, _ in weight_sites(stock.flow):
        signal = stock.flow.signals[node.outputs[0]]
        yield weight_name(stock.flow, node), node, signal, signal.average(signal.second)


def _reset(stock: Stock, name: str, second: float) -> bool:
    """Say whether a normalisation behind a weight makes its scale good again: gradients there grow as outputs shrink."""
    use = stock.uses.get(name)
    return use is not None and bool(use.normalised) and second > NORMALISABLE


def _lasting(numbers: list[tuple[str, float]], what: str, ways: Ways = BOTH) -> Iterator[Spot]:
    """Yield one spot where numbers leave [FADED, 1/FADED] and stay away to the end: side branches may be faint."""
    for verb, away, worst in ways:
        beyond = _tail(numbers, away)
        if beyond:
            name, first = beyond[0]
            end = worst(x for _, x in beyond)
            more = f", {len(beyond)} of {len(numbers)} layers to {end:.2g} at worst" if len(beyond) > 1 else ""
            severity: Severity = "error" if end < FAINT or end > 1 / FAINT else "warning"
            message = f"the second moment of its {what} {verb} to {first:.2g}{more}."
            yield Spot(severity, name, message, {"first": first, "worst": end}, "stepzero.plan keeps it.")


def _tail(numbers: list[tuple[str, float]], away: Callable[[float], bool]) -> list[tuple[str, float]]:
    """Return the numbers from which on all are away."""
    at = len(numbers)
    while at and away(numbers[at - 1][1]):
        at -= 1
    return numbers[at:]


def _is_head(stock: Stock, node: Node) -> bool:
    """Say whether an output leaves the model, through data movement at most: a head may start as small as it likes."""
    assert stock.graph is not None
    reach = set(node.outputs)
    for other in stock.graph.nodes[node.id + 1 :]:
        if other.op in MOVES and not reach.isdisjoint(other.inputs):
            reach.update(other.outputs)
    return not reach.isdisjoint(stock.graph.outputs)


def _joins_a_larger(stock: Stock, node: Node, second: float) -> bool:
    """Say whether a weight ends a residual branch: its output is added to a stream that may be larger."""
    assert stock.flow is not None
    reach = set(node.outputs)
    joins = {join.id for join in stock.joins}
    for other in stock.flow.graph.nodes[node.id + 1 :]:
        if reach.isdisjoint(other.inputs):
            continue
        if other.id in joins:
            return stock.flow.second(other.outputs[0]) > 10 * second
        if other.op in CARRYING | {"mul"}:
            reach.update(other.outputs)
    return False


def _input(node: Node) -> int:
    x = input_argument(node)
    return -1 if x is None else x
