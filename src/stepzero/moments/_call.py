"""One recorded op as a rule sees it: its arguments as signals, and the op itself, to be run on moments."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments._signal import Signal, constant
from stepzero.network import Graph, Node, Ref

Rule = Callable[["Call"], "Signal | tuple[Signal | None, ...] | None"]


@dataclass(frozen=True)
class Load:
    """What a weight op carries, per unit of E[w²]."""

    second: float  # second moment of the output
    fan: float  # inputs that reach one output, on average: the same for an input of ones
    input_second: float  # second moment of the input, averaged over its positions


class Weights(Protocol):
    """Who decides about weights during propagation: a fixed assignment, or a planner."""

    def settle(self, call: Call, weight: Signal, load: Load) -> Signal:
        """Return the weight with its law decided."""


@dataclass(frozen=True)
class Call:
    """A node together with the signals of its arguments."""

    graph: Graph
    node: Node
    signals: Mapping[int, Signal]  # by value id
    weights: Weights
    numbers: dict[Hashable, Signal] = field(default_factory=dict)  # of constants met on the walk, by where they lie

    @property
    def op(self) -> str:
        """The op's normalised name."""
        return self.node.op

    @property
    def where(self) -> str:
        """The place in the user's model, for messages."""
        return self.node.module or "the model's root"

    def argument(self, name: str, default: Any = None) -> Any:
        """Return a non-tensor argument by its schema name."""
        return self.node.arguments.get(name, default)

    def signal(self, name: str) -> Signal | None:
        """Return the signal of a tensor argument; None where the argument is None or carries no signal."""
        found = self.node.arguments.get(name)
        return self.signals.get(found.id) if isinstance(found, Ref) else None

    def signals_of(self, name: str) -> list[Signal | None]:
        """Return the signals of a list-of-tensors argument."""
        return [self.signals.get(item.id) if isinstance(item, Ref) else None for item in self.node.arguments[name]]

    def need(self, name: str) -> Signal:
        """Return the signal of an argument that must have one."""
        found = self.signal(name)
        if found is None:
            raise NoRuleError(f"{self.op} (at {self.where}) got no signal in its argument {name!r}")
        return found

    def operand(self, name: str) -> Signal:
        """Return the signal of a tensor argument, made from its numbers where it is a constant.

        Raises:
            NoRuleError: if it has neither.
        """
        found = self.signal(name)
        return self._from_numbers(self.node.arguments[name], name) if found is None else found

    def operands(self, name: str) -> list[Signal]:
        """Return the signals of a list-of-tensors argument, constants made from their numbers."""
        refs = self.node.arguments[name]
        found = self.signals_of(name)
        return [
            self._from_numbers(r, f"{name}[{i}]") if s is None else s
            for i, (s, r) in enumerate(zip(found, refs, strict=True))
        ]

    def _from_numbers(self, ref: Any, name: str) -> Signal:
        known = self.graph.values[ref.id].known if isinstance(ref, Ref) else None
        if known is None:
            raise NoRuleError(f"{self.op} (at {self.where}) got neither moments nor numbers in its argument {name!r}")
        if known.numel() == 1:
            return constant(known)
        key = known.untyped_storage().data_ptr(), known.storage_offset(), known.shape, known.stride(), known.dtype
        if key not in self.numbers:
            self.numbers[key] = constant(known)
        return self.numbers[key]

    @property
    def main(self) -> str:
        """The name of the first tensor argument: `self` or `input`."""
        return next(name for name, item in self.node.arguments.items() if isinstance(item, Ref))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the (first) output."""
        return self.graph.values[self.node.outputs[0]].shape

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of all outputs."""
        return [self.graph.values[out].shape for out in self.node.outputs]

    def run(self, /, **tensors: Any) -> Any:
        """Run the op itself with some arguments replaced, out of place."""
        arguments = {**self.node.arguments, **tensors}
        arguments = {name: self.fill(item) for name, item in arguments.items()}
        if self.node.writes:
            arguments = {k: a.clone() if isinstance(a, Tensor) else a for k, a in arguments.items()}
        return self.node.func(**arguments)

    def fill(self, item: Any) -> Any:
        """Put numbers in place of a reference that has them."""
        if isinstance(item, Ref):
            known = self.graph.values[item.id].known
            if known is None:
                raise NoRuleError(f"{self.op} (at {self.where}) needs the numbers of an argument that depends on data")
            return known
        if isinstance(item, (list, tuple)):
            return type(item)(self.fill(part) for part in item)
        return item


def dimensions(dims: Any, rank: int) -> list[int]:
    """Return reduced dims as non-negative numbers; None and () mean all."""
    if dims is None or dims == [] or dims == ():
        return list(range(rank))
    return sorted({d % rank for d in ([dims] if isinstance(dims, int) else dims)})


def tensor64(value: float) -> Tensor:
    """Return a float64 scalar."""
    return torch.tensor(value, dtype=torch.float64)
