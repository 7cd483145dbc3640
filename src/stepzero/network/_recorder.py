"""The dispatch mode under which one forward pass becomes a graph.

Below autograd, composite ops arrive whole: `linear`, `layer_norm`, `scaled_dot_product_attention` instead of their parts.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stepzero.errors import CaptureError, InputError
from stepzero.network._border import Border, moved_to_meta
from stepzero.network._graph import Graph
from stepzero.network._hints import hint
from stepzero.network._known import BUDGET, Shadows
from stepzero.network._meta import run_on_meta
from stepzero.network._ops import Call, is_random, tensors_of
from stepzero.network._scope import Scope
from stepzero.network._tape import check_dense
from stepzero.network._walk import replace_tensors
from stepzero.network._writer import Writer, without_aliases

# The size of what they return depends on numbers; where those are unknown, every element is kept.
SELECTING = frozenset({"nonzero", "nonzero_numpy", "masked_select", "where", "index", "_unique2", "torchvision::nms"})


class Recorder(TorchDispatchMode):
    """Records every op into a graph.

    Args:
        graph: Where values and nodes go.
        scope: Says which module runs.
        on_meta: Whether tensors carry no numbers. Foreign tensors and factories are then moved to meta.
        budget: Bytes of numbers that are followed beside the tensors on meta.
    """

    supports_higher_order_operators = True

    def __init__(self, graph: Graph, scope: Scope, *, on_meta: bool, budget: int = BUDGET) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.on_meta = on_meta
        self.writer = Writer(graph, scope, budget)
        self.border = Border(self.writer, on_meta=on_meta)
        self.failed: str = ""  # the op that raised, in words
        self.own_generators: list[str] = []  # lines that draw from a generator that they were given
        self.taken: str = ""  # what it would have taken

    def release(self) -> list[weakref.ref[torch.Tensor]]:
        """Let go of every tensor; see `Writer.release`."""
        self.border = Border(self.writer, on_meta=self.on_meta)
        return self.writer.release()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch wraps __torch_dispatch__ in a guard whose first use imports its compiler (1.5 s)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if isinstance(func, torch._ops.HigherOrderOperator):
            return self._higher_order(func, args, kwargs)
        call = Call.of(func, tuple(args), kwargs)
        if isinstance(kwargs.get("generator"), torch.Generator):
            self.own_generators.append(self.writer.scope.line())
        if self.border.is_outside(call):
            return self.border.run_outside(call)
        at_home = self.border.at_home
        call = Call.of(func, replace_tensors(at_home, tuple(args)), replace_tensors(at_home, kwargs))
        if call.schema.answers:
            return self.border.answer(call)
        if (left := self.border.leaving(call)) is not None:
            return left
        return self._record(moved_to_meta(call) if self.on_meta else call)

    def _record(self, call: Call) -> Any:
        writer, known = self.writer, self.writer.known
        reads = {id(t): writer.read(t) for t in call.tensors}
        shadows = None if is_random(call) else known.shadows(call)
        result = self._run(call, shadows)
        if call.op == "detach" and not call.written and writer.is_constant(call.args[0]):
            return writer.same(result, call.args[0])  # factories detach what they made
        result, fresh = without_aliases(call, result)
        for tensor in fresh:
            check_dense(tensor)
        known.follow(call, result, shadows)
        if (fresh or call.written) and not _changes_nothing(call, reads):
            writer.call(call, reads, fresh)
        return result

    def _run(self, call: Call, shadows: Shadows | None) -> Any:
        self._check_range(call)
        try:
            if not self.on_meta:
                return call.func(*call.args, **call.kwargs)
            if shadows is None and self._selects(call):
                self.writer.assume(f"{call.op} keeps every element")
            return run_on_meta(call, shadows, self.writer.known)
        except Exception:
            if not self.failed:
                self.failed, self.taken = str(call), hint(call)
            raise

    def _check_range(self, call: Call) -> None:
        """Raise where known indices do not fit their table: on meta no kernel looks."""
        if call.op != "embedding":
            return
        rows, shadow = call.arguments["weight"].shape[0], self.writer.known.get(call.arguments["indices"])
        if shadow is not None and shadow.certain and shadow.tensor.numel() and int(shadow.tensor.max()) >= rows:
            largest = int(shadow.tensor.max())
            raise InputError(f"index {largest} at {self.writer.place} is out of range: the table has {rows} rows.")

    def _selects(self, call: Call) -> bool:
        if call.op == "index":  # only masks select
            indices = tensors_of(call.arguments["indices"])
            return any(t.dtype in (torch.bool, torch.uint8) and self.writer.known.get(t) is None for t in indices)
        return call.op in SELECTING and not (call.op == "where" and "self" in call.arguments)

    def _higher_order(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run the plain implementation of `while_loop` or `flex_attention` with its ops recorded."""
        plain = func.py_kernels.get(torch._C.DispatchKey.CompositeExplicitAutograd)
        try:
            with self:
                return plain(*args, **kwargs)
        except (TypeError, AssertionError) as error:  # none, or one that refuses modes (scan)
            raise CaptureError(f"the higher-order op {func} cannot be recorded. Write it as a Python loop.") from error


def _changes_nothing(call: Call, reads: dict[int, int]) -> bool:
    """Say whether this is the `x[i] = x[i]` that Python appends to `x[i] += y`."""
    if call.op != "copy" or not call.written:
        return False
    return reads[id(call.arguments["self"])] == reads[id(call.arguments["src"])]
