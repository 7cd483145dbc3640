"""What lint looks at: each parameter with its law or its values, how it is used, and the signal where inputs are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from stepzero.checking._holding import Holding
from stepzero.checking._uses import Use, uses_in_graph, uses_of_modules
from stepzero.errors import ModelError
from stepzero.laws import isometric
from stepzero.moments import Flow, propagate
from stepzero.network import (
    Graph,
    ModelInputs,
    Node,
    Ref,
    build,
    canonical_name,
    capture,
    check_model,
    parameter_slots,
    recording,
)


@dataclass(frozen=True)
class Stock:
    """A model as rules see it.

    Args:
        model: The model; its parameters may be on meta.
        holdings: Each parameter once, by canonical name.
        uses: How each weight is used, by its name: from its module, or better from the graph.
        graph: The recorded forward pass, where inputs were given.
        flow: The predicted moments, where inputs were given and laws or values are known.
        lost: Draws that the constructor made into temporaries, with their lines of code.
        notes: What could not be looked at.
    """

    model: nn.Module
    holdings: Mapping[str, Holding]
    uses: Mapping[str, Use]
    graph: Graph | None = None
    flow: Flow | None = None
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def weights(self) -> Iterator[tuple[Holding, Use]]:
        """Yield each weight whose use and moments are known."""
        for name, use in self.uses.items():
            held = self.holdings.get(name)
            if held is not None and held.moments is not None:
                yield held, use

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """Every module by its path, without the prefixes of wrappers."""
        return {canonical_name(path): module for path, module in self.model.named_modules()}

    @cached_property
    def joins(self) -> list[Node]:
        """Additions of two activations of one shape: residual joins, and everything that looks like one."""
        graph = self.graph
        if graph is None:
            return []
        found = []
        for node in graph.nodes:
            refs = [graph.values[a.id] for a in node.arguments.values() if isinstance(a, Ref)]
            shape = graph.values[node.outputs[0]].shape
            if node.op == "add" and len(refs) == 2 and all(v.from_input and v.shape == shape for v in refs):
                found.append(node)
        return found

    @cached_property
    def skips(self) -> bool:
        """Whether signals go past layers: by a residual join, or side by side with what was made of them (dense nets)."""
        if self.graph is None:
            return False
        values = self.graph.values
        side_by_side = (n for n in self.graph.nodes if n.op in ("cat", "concat"))
        return bool(self.joins) or any(sum(values[v].from_input for v in n.inputs) > 1 for n in side_by_side)

    def places(self, *kinds: type) -> Iterator[tuple[Holding, Any, str]]:
        """Yield each parameter that a module of these classes holds, with the module and the attribute."""
        for held in self.holdings.values():
            for module, attribute in held.slot.places:
                if isinstance(module, kinds):
                    yield held, module, attribute


def take_stock(model_or_factory: nn.Module | Callable[[], nn.Module], inputs: Any = None) -> Stock:
    """Return what is known of a model: from its values, or from what its factory would draw.

    Raises:
        ModelError: if it is neither a module nor a function that makes one, or a parameter has no shape yet.
        InputError, CaptureError: if inputs are given and do not fit.
    """
    model = _model(model_or_factory)
    recorded = recording(model)
    origins, lost = ({}, ()) if recorded is None else (recorded.origins, recorded.lost)
    held = {name: Holding(slot, origins.get(name)) for name, slot in parameter_slots(model).items()}
    uses = uses_of_modules(model)
    notes = _unknown(held)
    if inputs is None:
        return Stock(model, held, uses, lost=lost, notes=notes)
    graph, flow = _signal(model, held, inputs)
    uses = {name: found for name, found in uses_in_graph(graph, flow, uses, held).items() if name in held}
    told = flow if recorded is not None or all(h.moments is not None for h in held.values()) else None
    return Stock(model, held, uses, graph, told, lost, notes)


def _model(model_or_factory: Any) -> nn.Module:
    if isinstance(model_or_factory, nn.Module):
        check_model(model_or_factory)
        return model_or_factory
    if callable(model_or_factory):
        return build(model_or_factory)
    raise ModelError(
        f"{model_or_factory!r} is a {type(model_or_factory).__name__}: lint a torch.nn.Module, or a function that makes one."
    )


def _unknown(held: Mapping[str, Holding]) -> tuple[str, ...]:
    hollow = [h for h in held.values() if h.moments is None and h.slot.tensor.numel() and h.slot.tensor.is_meta]
    unread = [f"{h.name} ({h.origin.reason})" for h in hollow if h.origin is not None and h.origin.reason]
    plain = [h.name for h in hollow if h.origin is None]
    notes = []
    if plain:
        notes.append(
            f"{len(plain)} parameters are on meta and nothing recorded their init ({plain[0]} …). "
            "Pass the factory, or stepzero.build(factory), so that laws are known"
        )
    if unread:
        notes.append(f"{len(unread)} parameters have no law that is known: {'; '.join(unread[:3])}")
    return tuple(notes)


def _signal(model: nn.Module, held: Mapping[str, Holding], inputs: Any) -> tuple[Graph, Flow]:
    """Capture the forward pass and follow its moments under the model's own laws."""
    call = ModelInputs.of(inputs, model)
    graph = capture(model, call)
    given = {
        name: t
        for name, t in call.named(model.forward).items()
        if isinstance(t, Tensor) and t.is_floating_point() and not t.is_meta
    }
    firsts = {graph.values[v].names[0] for v in graph.parameters.values()}
    moments = {name: held[name].lean() for name in firsts if name in held}
    alike = [name for name in moments if (law := held[name].law) is not None and isometric(law, held[name].shape)]
    return graph, propagate(graph, given, moments, isometric=alike)
