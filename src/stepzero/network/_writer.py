"""Write nodes and their values into the graph, with the place in the model that ran them."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from stepzero.network._graph import Graph, Node, Ref, Value
from stepzero.network._known import Known
from stepzero.network._ops import Call, is_random, tensors_of
from stepzero.network._scope import Scope
from stepzero.network._tape import Entry, Tape, Write, geometry
from stepzero.network._walk import replace_tensors


class Writer:
    """The graph under construction, and what its live tensors stand for."""

    def __init__(self, graph: Graph, scope: Scope, budget: int) -> None:
        self.graph, self.scope = graph, scope
        self.tape, self.known = Tape(graph), Known(budget)

    @property
    def place(self) -> str:
        return self.scope.here.path or "the root module"

    def assume(self, what: str) -> None:
        """Note what control flow or a shape was given that a real run might not give."""
        note = f"{what} at {self.place}"
        self.graph.assumed = tuple(dict.fromkeys((*self.graph.assumed, note)))

    def leaf(self, tensor: torch.Tensor, kind: Any, names: tuple[str, ...] = (), numbers: Any = None) -> Value:
        """Register a tensor that no op made, with its numbers where they are known."""
        value = self.tape.leaf(tensor, kind, names)
        if numbers is not None:
            self.known.put(tensor, numbers)
            self.known.show(tensor, value)
        return value

    def release(self) -> list[weakref.ref[torch.Tensor]]:
        """Let go of every live tensor, and return weak references to what ops made on meta.

        The graph keeps the numbers that it shows; the rest must not wait for the garbage collector.
        """
        made = self.tape.made_on_meta()
        self.tape, self.known = Tape(self.graph), Known()
        return made

    def read(self, tensor: torch.Tensor) -> int:
        """Return the value that a live tensor holds now."""
        return self.tape.read(tensor, self._alias_update)

    def is_constant(self, tensor: torch.Tensor) -> bool:
        """Say whether a live tensor depends on no input and no parameter."""
        value = self.graph.values[self.read(tensor)]
        return not (value.from_parameter or value.from_input)

    def same(self, tensor: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Let another Python object stand for the value of `source`."""
        self.tape.stands_for(tensor, self.read(source))
        self.known.share(source, tensor)
        return tensor

    def detach(self, tensor: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Record that `tensor` is `source`, out of the reach of gradients."""
        ref = Ref(self.read(source))
        node = self._node("detach", torch.ops.aten.detach.default, {"self": ref}, (ref.id,), args=(ref,))
        made = self._made(node, tensor)
        self.tape.stands_for(tensor, made.id, detached=True)
        self.known.share(source, tensor)
        self.known.show(tensor, made)
        return tensor

    def call(self, call: Call, reads: dict[int, int], fresh: list[torch.Tensor]) -> None:
        """Record one op.

        Args:
            call: The op and its arguments.
            reads: The value of each tensor among them, as it was before the op ran; by id of the tensor.
            fresh: The tensors that it returned and that did not exist before.
        """

        def ref(tensor: torch.Tensor) -> Ref:
            return Ref(reads[id(tensor)])

        arguments = {name: replace_tensors(ref, argument) for name, argument in call.arguments.items()}
        inputs = tuple(reads[id(t)] for t in call.read)
        node = self._node(call.op, call.func, arguments, inputs, replace_tensors(ref, call.args))
        node.kwargs, node.random = replace_tensors(ref, call.kwargs), is_random(call)
        for tensor in fresh:
            detached = call.op == "detach" or self.tape.views_detached(tensor, call.tensors)
            self.tape.stands_for(tensor, self._made(node, tensor).id, detached=detached)
        self._overwrite(node, call, reads)
        for tensor, value in zip((*fresh, *call.written), node.outputs, strict=True):
            self.known.show(tensor, self.graph.values[value])

    def draw(self, tensor: torch.Tensor, op: str, **settings: Any) -> None:
        """Record that a tensor was filled by a whole recipe, such as a truncated normal by rejection."""
        old = self.read(tensor)
        node = self._node(op, None, {"self": Ref(old), **settings}, ())
        node.writes, node.random = (old,), True
        self.known.forget(tensor)
        self.tape.written(tensor, self._made(node, tensor).id, grad=node.grad)

    def _overwrite(self, node: Node, call: Call, reads: dict[int, int]) -> None:
        """Make the values that an in-place op leaves in the tensors that it wrote."""
        for tensor in call.written:
            value = self._made(node, tensor)
            if call.schema.views:
                self.tape.stands_for(tensor, value.id)
            else:
                self.tape.written(tensor, value.id, grad=node.grad)
        node.writes = tuple(reads[id(t)] for t in call.written)

    def _node(
        self, op: str, func: Any, arguments: dict[str, Any], inputs: tuple[int, ...], args: tuple[Any, ...] = ()
    ) -> Node:
        here = self.scope.here
        node = Node(len(self.graph.nodes), op, func, args, {}, arguments, inputs, ())
        node.module, node.call, node.training = here.path, here.call, here.training
        node.grad, node.region, node.line = self.scope.grad, self.scope.region, self.scope.line()
        self.graph.nodes.append(node)
        return node

    def _made(self, node: Node, tensor: torch.Tensor) -> Value:
        value = self.tape.new(tensor)
        value.node, value.index = node.id, len(node.outputs)
        sources = [self.graph.values[i] for i in node.inputs]
        value.from_input = any(source.from_input for source in sources)
        value.from_parameter = any(source.from_parameter for source in sources)
        node.outputs = (*node.outputs, value.id)
        return value

    def _alias_update(self, entry: Entry, write: Write) -> int:
        """Record that a stale view takes over what was written to its memory."""
        arguments = {
            "old": Ref(entry.value),
            "new": Ref(write.value),
            "old_geometry": geometry(entry.tensor),
            "new_geometry": write.geometry,
            "numel": entry.tensor.untyped_storage().nbytes() // entry.tensor.element_size(),
        }
        node = self._node("alias_update", None, arguments, (entry.value, write.value))
        node.grad = write.grad and not write.detached and not entry.detached
        value = self._made(node, entry.tensor)
        self.known.show(entry.tensor, value)
        return value.id


def without_aliases(call: Call, result: Any) -> tuple[Any, list[torch.Tensor]]:
    """Return the result with one tensor object per new value, and the tensors that are new.

    Ops such as `contiguous`, or `dropout` in eval mode, may return their input itself: nothing is new then.
    Where only some of several outputs are inputs, those become views of their own.
    """
    given, overwritten = {id(t) for t in call.tensors}, {id(t) for t in call.written}
    outputs = list(tensors_of(result))
    if all(id(t) in given for t in outputs):
        return result, []
    own = {id(t): torch.ops.aten.alias.default(t) for t in outputs if id(t) in given - overwritten}
    result = replace_tensors(lambda t: own.get(id(t), t), result)
    return result, [t for t in tensors_of(result) if id(t) not in overwritten]
