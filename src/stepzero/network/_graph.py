"""A model as data: the values that flow through one forward pass, and the nodes that made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Kind = Literal["parameter", "buffer", "input", "constant", "op"]


@dataclass(frozen=True, slots=True)
class Ref:
    """The place of a value among a node's recorded arguments."""

    id: int


@dataclass(slots=True)
class Value:
    """One tensor of the forward pass, without its numbers."""

    id: int
    kind: Kind
    names: tuple[str, ...]  # canonical name first; a tied parameter has several
    shape: tuple[int, ...]
    dtype: torch.dtype
    node: int | None = None  # the node that made it; None for parameters, buffers, inputs, constants
    index: int = 0  # which output of that node
    known: torch.Tensor | None = None  # its numbers, where they follow from constants, buffers or integer inputs alone
    from_input: bool = False  # depends on an input
    from_parameter: bool = False  # depends on a parameter


@dataclass(slots=True)
class Node:
    """One recorded op. Recording order is a topological order."""

    id: int
    op: str  # normalised name: in-place, out= and overloads merged ("linear", "conv2d", "add")
    func: Any  # the OpOverload that ran; None for synthetic nodes ("alias_update")
    args: tuple[Any, ...]  # as recorded, tensors replaced by Ref
    kwargs: dict[str, Any]
    arguments: dict[str, Any]  # every argument by its schema name, defaults filled in, tensors replaced by Ref
    inputs: tuple[int, ...]  # values read, in argument order (not where only the shape is read: zeros_like, expand_as)
    outputs: tuple[int, ...]  # values made
    module: str = ""  # path of the module that ran it
    call: int = 0  # which call of that module
    training: bool = False  # that module's mode
    grad: bool = True  # False: a gradient stops here; an in-place write lets it pass to the value overwritten as it is
    writes: tuple[int, ...] = ()  # values (ids) that an in-place op overwrote
    random: bool = False
    line: str = ""  # file and line of the code that ran it; only `build` records it
    region: str = ""  # the custom autograd.Function call that it is part of ("RoundFunction#1")


@dataclass(slots=True)
class Graph:
    """A forward pass as data."""

    values: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)  # input name → value
    outputs: list[int] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)  # every name (ties too) → value
    buffers: dict[str, int] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)  # path → class name
    unused: tuple[str, ...] = ()  # parameters never read
    dead: tuple[str, ...] = ()  # parameters read, but on no path to an output
    rung: str = "meta"  # how far down the fallback ladder capture went
    assumed: tuple[str, ...] = ()  # values that control flow was given, with their place

    def producer(self, value: int) -> Node | None:
        """Return the node that made a value, or None for a leaf."""
        made_by = self.values[value].node
        return None if made_by is None else self.nodes[made_by]

    def uses(self) -> Mapping[int, list[Node]]:
        """Return, for each value, the nodes that read it."""
        table: dict[int, list[Node]] = {value.id: [] for value in self.values}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                table[value].append(node)
        return table
