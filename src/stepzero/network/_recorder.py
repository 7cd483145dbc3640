"""The dispatch mode under which one forward pass becomes a graph.

Below autograd, composite ops arrive whole: `linear`, `layer_norm`, `scaled_dot_product_attention` instead of their parts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stepzero.network._graph import Graph, Node, Ref, Value
from stepzero.network._known import ASSUMED_FINITE, GUESS, RANDOM_SCALARS, Known, Shadow, Shadows, finite
from stepzero.network._meta import run_on_meta
from stepzero.network._ops import Schema, arguments_of, is_random, schema_of, tensors_of
from stepzero.network._scope import Scope
from stepzero.network._tape import Entry, Tape, Write, geometry
from stepzero.network._walk import replace_tensors

META = torch.device("meta")


class NeedsNumbersError(Exception):
    """Control flow asks for a number that only a run with real tensors knows."""


class Recorder(TorchDispatchMode):
    """Records every op into a graph.

    Args:
        graph: Where values and nodes go.
        scope: Says which module runs.
        on_meta: Whether tensors carry no numbers. Foreign tensors and factories are then moved to meta.
    """

    supports_higher_order_operators = True

    def __init__(self, graph: Graph, scope: Scope, *, on_meta: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph, self.scope, self.on_meta = graph, scope, on_meta
        self.tape, self.known = Tape(graph), Known()
        self.stand_ins: dict[int, torch.Tensor] = {}  # id of a real tensor → its stand-in on meta
        self.failed: str = ""  # the op that raised, in words
        self._left: dict[int, torch.Tensor] = {}  # real tensors that were taken out of the graph
        self._foreign: list[torch.Tensor] = []  # kept alive: their ids are keys

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch wraps __torch_dispatch__ in a guard whose first use imports its compiler (1.5 s)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if isinstance(func, torch._ops.HigherOrderOperator):
            return self._higher_order(func, args, kwargs)
        schema = schema_of(func)
        if self._outside(schema, args, kwargs):
            return self._run_outside(func, args, kwargs)
        args, kwargs = replace_tensors(self.at_home, args), replace_tensors(self.at_home, kwargs)
        if schema.answers:
            return self._answer(func, schema, args, kwargs)
        leaving = self._leaving(schema, args, kwargs)
        if leaving is not None:
            return leaving
        return self._record(func, schema, args, kwargs)

    # Leaves

    def leaf(self, tensor: torch.Tensor, kind: Any, names: tuple[str, ...] = (), numbers: Any = None) -> Value:
        """Register a tensor that no op made, with its numbers where they are known."""
        value = self.tape.leaf(tensor, kind, names)
        if numbers is not None:
            self.known.put(tensor, numbers)
            self.known.show(tensor, value)
        return value

    def at_home(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor that the tape knows: itself, its stand-in on meta, or a constant made of it now."""
        if tensor in self.tape:
            return tensor
        if (source := self.tape.same_memory(tensor)) is not None:
            return self._adopt(tensor, source)
        stand_in = self.stand_ins.get(id(tensor))
        if stand_in is not None:
            return stand_in
        self._foreign.append(tensor)
        if tensor.device.type == "meta":
            self.leaf(tensor, "constant")
            return tensor
        numbers = tensor.detach().clone()
        stand_in = torch.empty_strided(numbers.shape, numbers.stride(), dtype=numbers.dtype, device=META)
        home = stand_in if self.on_meta else tensor.detach().clone()
        self.stand_ins[id(tensor)] = home
        self.leaf(home, "constant", numbers=numbers)
        return home

    def value_of(self, tensor: torch.Tensor) -> int:
        """Return the value that a live tensor holds now."""
        return self._read(tensor)

    def _adopt(self, tensor: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Take in a tensor that came without an op and shares memory with a known one.

        Factories wrap their result anew; `nn.Parameter(x)` detaches.
        """
        func, value = torch.ops.aten.detach.default, self._read(source)
        if self._is_constant(value):
            return self._same(tensor, source)
        node = Node(
            id=len(self.graph.nodes),
            op="detach",
            func=func,
            args=(Ref(value),),
            kwargs={},
            arguments={"self": Ref(value)},
            inputs=(value,),
            outputs=(),
        )
        made = self._made(self._place(node), tensor)
        self.tape.stands_for(tensor, made.id, detached=True)
        self._share_numbers(source, tensor)
        self.known.show(tensor, made)
        return tensor

    def _same(self, tensor: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Let another Python object stand for the value of `source`."""
        self.tape.stands_for(tensor, self._read(source))
        self._share_numbers(source, tensor)
        return tensor

    def _share_numbers(self, source: torch.Tensor, tensor: torch.Tensor) -> None:
        if (shadow := self.known.get(source)) is not None:
            self.known.put(tensor, shadow.tensor, certain=shadow.certain)

    def _is_constant(self, value: int) -> bool:
        return not (self.graph.values[value].from_parameter or self.graph.values[value].from_input)

    # What leaves the graph: Python numbers, and known tensors that are sent to the CPU

    def _answer(self, func: Any, schema: Schema, args: Any, kwargs: Any) -> Any:
        shadows = self._shadows(schema, args, kwargs)
        if shadows is not None:
            answer = func(*shadows.args, **shadows.kwargs)
            if not shadows.certain:
                self._assume(f"{schema.op} -> {answer}")
            return answer
        if not self.on_meta:
            answer = func(*args, **kwargs)
            self._assume(f"{schema.op} -> {answer} (from activations)")
            return answer
        try:
            return func(*args, **kwargs)
        except (RuntimeError, NotImplementedError) as error:
            raise NeedsNumbersError(f"{schema.op} reads a number of an activation at {self.place}") from error

    def _outside(self, schema: Schema, args: Any, kwargs: Any) -> bool:
        """Say whether an op concerns only real tensors that are no part of the graph.

        `x.cpu().numpy()` takes a tensor out, and `numpy` detaches it first: on a stand-in it would read no memory at all.
        """
        tensors = [t for a in (*args, *kwargs.values()) for t in tensors_of(a)]
        if not self.on_meta or not tensors or any(t.device.type == "meta" for t in tensors):
            return False
        if schema.op in ("detach", "resolve_conj", "resolve_neg"):
            return not any(id(t) in self.stand_ins for t in tensors)
        return all(id(t) in self._left for t in tensors)

    def _run_outside(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = func(*args, **kwargs)
        self._left |= {id(t): t for t in tensors_of(result)}
        return result

    def _leaving(self, schema: Schema, args: Any, kwargs: Any) -> torch.Tensor | None:
        """Return the real tensor when a known one is sent to the CPU (`x.cpu().numpy()`)."""
        if not self.on_meta or schema.op not in ("to", "_to_copy", "cpu"):
            return None
        devices = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.device)]
        shadow = self.known.get(args[0])
        if shadow is None or [device.type for device in devices] != ["cpu"]:
            return None
        dtype = arguments_of(schema, args, kwargs).get("dtype")
        left = shadow.tensor.detach().to(dtype=dtype or shadow.tensor.dtype, copy=True)
        self._left[id(left)] = left
        return left

    def _assume(self, what: str) -> None:
        self.graph.assumed = (*self.graph.assumed, f"{what} at {self.place}")

    @property
    def place(self) -> str:
        return self.scope.here.path or "the root module"

    # Ops

    def _record(self, func: Any, schema: Schema, args: Any, kwargs: Any) -> Any:
        if self.on_meta:
            args, kwargs = _to_meta(schema, args, kwargs)
        arguments = arguments_of(schema, args, kwargs)
        reads = {id(t): self._read(t) for name in arguments for t in tensors_of(arguments[name])}
        written = [t for name in schema.names if name in schema.written for t in tensors_of(arguments[name])]
        random = is_random(schema, arguments)
        shadows = None if random else self._shadows(schema, args, kwargs)
        result = self._run(func, schema, args, kwargs, shadows)
        if schema.op == "detach" and not written and self._is_constant(self._read(args[0])):
            return self._same(result, args[0])  # factories detach what they made
        result, fresh = self._without_aliases(result, reads, written)
        numbers = self._follow(func, schema, result, written, shadows)
        if (fresh or written) and not self._changes_nothing(schema, arguments, reads):
            node = self._node(func, schema, args, kwargs, arguments, reads, random)
            sources = [t for a in arguments.values() for t in tensors_of(a)]
            for tensor in fresh:
                detached = schema.op == "detach" or self.tape.views_detached(tensor, sources)
                self.tape.stands_for(tensor, self._made(node, tensor).id, detached=detached)
            self._overwrite(node, schema, written, reads)
            self._show(node, result, [*fresh, *written], numbers)
        return result

    def _read(self, tensor: torch.Tensor) -> int:
        return self.tape.read(tensor, self._alias_update)

    def _run(self, func: Any, schema: Schema, args: Any, kwargs: Any, shadows: Any) -> Any:
        try:
            if self.on_meta:
                return run_on_meta(func, schema, args, kwargs, shadows, self.known)
            return func(*args, **kwargs)
        except Exception:
            shapes = ", ".join(str(tuple(t.shape)) for a in (*args, *kwargs.values()) for t in tensors_of(a))
            self.failed = self.failed or f"{schema.op}({shapes})"
            raise

    def _without_aliases(self, result: Any, reads: Any, written: list[torch.Tensor]) -> Any:
        """Return the result with one tensor object per new value, and the tensors that are new.

        Ops such as `contiguous` or `dropout` in eval mode may return their input itself: no node is recorded then.
        Where only some of several outputs are inputs, those become views of their own.
        """
        outputs = list(tensors_of(result))
        old = [t for t in outputs if id(t) in reads]
        if len(old) == len(outputs):
            return result, []
        overwritten = {id(t) for t in written}
        own = {id(t): torch.ops.aten.alias.default(t) for t in old if id(t) not in overwritten}
        result = replace_tensors(lambda t: own.get(id(t), t), result)
        return result, [t for t in tensors_of(result) if id(t) not in overwritten]

    def _changes_nothing(self, schema: Schema, arguments: Any, reads: Any) -> bool:
        """Say whether this is the `x[i] = x[i]` that Python appends to `x[i] += y`."""
        if schema.op != "copy" or not schema.written:
            return False
        return bool(reads[id(arguments["self"])] == reads[id(arguments["src"])])

    def _node(
        self, func: Any, schema: Schema, args: Any, kwargs: Any, arguments: Any, reads: Any, random: bool
    ) -> Node:
        def ref(tensor: torch.Tensor) -> Ref:
            return Ref(reads[id(tensor)])

        read = [n for n in schema.names if n not in schema.shape_only]
        inputs = tuple(reads[id(t)] for n in read for t in tensors_of(arguments[n]))
        node = Node(
            id=len(self.graph.nodes),
            op=schema.op,
            func=func,
            args=replace_tensors(ref, tuple(args)),
            kwargs=replace_tensors(ref, kwargs),
            arguments={name: replace_tensors(ref, arguments[name]) for name in schema.names},
            inputs=inputs,
            outputs=(),
            random=random,
        )
        return self._place(node)

    def _place(self, node: Node) -> Node:
        here = self.scope.here
        node.module, node.call, node.training = here.path, here.call, here.training
        node.grad, node.region = self.scope.grad, self.scope.region
        self.graph.nodes.append(node)
        return node

    def _overwrite(self, node: Node, schema: Schema, written: list[torch.Tensor], reads: Any) -> None:
        """Make the values that an in-place op leaves in the tensors that it wrote."""
        for tensor in written:
            value = self._made(node, tensor)
            if schema.views:
                self.tape.stands_for(tensor, value.id)
            else:
                self.tape.written(tensor, value.id, grad=node.grad)
        node.writes = tuple(reads[id(t)] for t in written)

    def _made(self, node: Node, tensor: torch.Tensor) -> Value:
        value = self.tape.new(tensor)
        value.node, value.index = node.id, len(node.outputs)
        sources = [self.graph.values[i] for i in node.inputs]
        value.from_input = any(s.from_input for s in sources)
        value.from_parameter = any(s.from_parameter for s in sources)
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
        node = Node(
            id=len(self.graph.nodes),
            op="alias_update",
            func=None,
            args=(),
            kwargs={},
            arguments=arguments,
            inputs=(entry.value, write.value),
            outputs=(),
        )
        value = self._made(self._place(node), entry.tensor)
        node.grad = write.grad and not write.detached and not entry.detached
        self.known.show(entry.tensor, value)
        return value.id

    # Numbers

    def _shadows(self, schema: Schema, args: Any, kwargs: Any) -> Shadows | None:
        """Return the arguments with real numbers in the place of stand-ins, or None where one is unknown."""
        found: list[Shadow | None] = []

        def numbers(name: str, thing: Any) -> Any:
            return replace_tensors(lambda tensor: self._number(schema, name, tensor, found), thing)

        real_args = tuple(_on_cpu(numbers(n, a)) for n, a in zip(schema.names, args, strict=False))
        real_kwargs = {name: _on_cpu(numbers(name, a)) for name, a in kwargs.items()}
        if None in found:
            return None
        return Shadows(real_args, real_kwargs, certain=all(s.certain for s in found if s is not None))

    def _number(self, schema: Schema, name: str, tensor: torch.Tensor, found: list[Shadow | None]) -> torch.Tensor:
        shadow = self.known.get(tensor)
        if shadow is None and name in schema.shape_only and name not in schema.written:
            return torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
        found.append(shadow)
        return tensor if shadow is None else shadow.tensor

    def _follow(self, func: Any, schema: Schema, result: Any, written: list[torch.Tensor], shadows: Any) -> Any:
        """Return (numbers, certain) of what the op made, or None; numbers overwritten by unknown ones are forgotten."""
        numbers = None if shadows is None else self._numbers(func, result, written, shadows)
        if numbers is not None:
            return numbers, shadows.certain
        for tensor in written:
            self.known.forget(tensor)
        guess = self._guess(func, schema, result)
        return None if guess is None else (guess, False)

    def _numbers(self, func: Any, result: Any, written: list[torch.Tensor], shadows: Shadows) -> Any:
        if not self.known.room_for(result):
            return None
        for tensor in written:
            self.known.before_write(tensor)
            if not shadows.certain:
                self.known.doubt(tensor)
        try:
            return shadows.run(func)
        except (RuntimeError, NotImplementedError):  # no CPU kernel for this type: the numbers stay unknown
            return None

    def _guess(self, func: Any, schema: Schema, result: Any) -> torch.Tensor | None:
        """Answer what control flow may ask of activations: nothing is infinite, a random scalar keeps the layer."""
        if not isinstance(result, torch.Tensor):
            return None
        if schema.op in ASSUMED_FINITE:
            return finite(func, result)
        if schema.op in RANDOM_SCALARS and result.numel() == 1:
            return torch.full(result.shape, GUESS, dtype=result.dtype)
        return None

    def _show(self, node: Node, result: Any, made: list[torch.Tensor], numbers: Any) -> None:
        if numbers is not None:
            for tensor, real in zip(tensors_of(result), tensors_of(numbers[0]), strict=True):
                if self.known.get(tensor) is None:
                    self.known.put(tensor, real, certain=numbers[1])
        for tensor, value in zip(made, node.outputs, strict=True):
            self.known.show(tensor, self.graph.values[value])

    def _higher_order(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run the plain implementation of `cond`, `map`, `while_loop` … with its body recorded."""
        plain = func.py_kernels.get(torch._C.DispatchKey.CompositeExplicitAutograd)
        if plain is None:
            raise NotImplementedError(f"the higher-order op {func} has no plain implementation to record")
        with self:
            return plain(*args, **kwargs)


def _to_meta(schema: Schema, args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """Return the arguments with everything that names a device or a generator moved to meta."""
    args = tuple(META if isinstance(a, torch.device) else a for a in args)
    kwargs = {name: META if isinstance(a, torch.device) else a for name, a in kwargs.items()}
    factory = schema.takes_device and not any(True for a in (*args, *kwargs.values()) for _ in tensors_of(a))
    if factory and META not in args:
        kwargs["device"] = META
    for name, neutral in (("pin_memory", False), ("generator", None)):
        if name in kwargs:
            kwargs[name] = neutral
    return args, kwargs


def _on_cpu(argument: Any) -> Any:
    return torch.device("cpu") if isinstance(argument, torch.device) else argument
