"""What crosses the border of the graph: real tensors that enter it, and numbers that leave it for Python."""

from __future__ import annotations

from typing import Any

import torch

from stepzero.network._meta import META, stand_in
from stepzero.network._ops import Call, tensors_of
from stepzero.network._tape import check_dense
from stepzero.network._writer import Writer


class NeedsNumbersError(Exception):
    """Control flow asks for a number that only a run with real tensors knows."""


class Border:
    """Keeps tensors of the graph and tensors of the world apart.

    Args:
        writer: Registers what enters.
        on_meta: Whether tensors of the graph carry no numbers; those of the world then get stand-ins.
    """

    def __init__(self, writer: Writer, *, on_meta: bool) -> None:
        self.writer, self.on_meta = writer, on_meta
        self.stand_ins: dict[int, torch.Tensor] = {}  # id of a tensor of the world → its stand-in
        self._left: dict[int, torch.Tensor] = {}  # real tensors that were taken out of the graph
        self._entered: list[torch.Tensor] = []  # kept alive: their ids are keys

    def at_home(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor that the tape knows: itself, its stand-in, or a constant made of it now."""
        tape = self.writer.tape
        check_dense(tensor)
        if tensor in tape:
            return tensor
        if (source := tape.same_memory(tensor)) is not None:
            # It came without an op: factories wrap their result anew; `nn.Parameter(x)` detaches.
            return (self.writer.same if self.writer.is_constant(source) else self.writer.detach)(tensor, source)
        if id(tensor) not in self.stand_ins:
            self._entered.append(tensor)
            self.stand_ins[id(tensor)] = self._enter(tensor)
        return self.stand_ins[id(tensor)]

    def _enter(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta:
            self.writer.leaf(tensor, "constant")
            return tensor
        numbers = tensor.detach().clone()
        home = stand_in(numbers) if self.on_meta else tensor.detach().clone()
        self.writer.leaf(home, "constant", numbers=numbers)
        return home

    def is_outside(self, call: Call) -> bool:
        """Say whether an op concerns only real tensors that are no part of the graph.

        `x.cpu().numpy()` takes a tensor out, and `numpy` detaches it first: on a stand-in it would read no memory at all.
        """
        tensors = call.tensors
        if not self.on_meta or not tensors or any(t.is_meta for t in tensors):
            return False
        if call.op in ("detach", "resolve_conj", "resolve_neg"):
            return not any(id(t) in self.stand_ins for t in tensors)
        return all(id(t) in self._left for t in tensors)

    def run_outside(self, call: Call) -> Any:
        """Run an op on real tensors; what it makes is no part of the graph either."""
        result = call.func(*call.args, **call.kwargs)
        self._left |= {id(t): t for t in tensors_of(result)}
        return result

    def leaving(self, call: Call) -> torch.Tensor | None:
        """Return the real tensor when a known one is sent to the CPU (`x.cpu().numpy()`)."""
        if not self.on_meta or call.op not in ("to", "_to_copy", "cpu"):
            return None
        devices = [a for a in call.arguments.values() if isinstance(a, torch.device)]
        shadow = self.writer.known.get(call.args[0])
        if shadow is None or [device.type for device in devices] != ["cpu"]:
            return None
        dtype = call.arguments.get("dtype") or shadow.tensor.dtype
        left = shadow.tensor.detach().to(dtype=dtype, copy=True)
        self._left[id(left)] = left
        return left

    def answer(self, call: Call) -> Any:
        """Return the number that an op such as `item` takes out of the graph."""
        shadows = self.writer.known.shadows(call)
        if shadows is not None:
            answer = shadows.run(call.func)
            if not shadows.certain:
                self.writer.assume(f"{call.op} -> {answer}")
            return answer
        if not self.on_meta:
            answer = call.func(*call.args, **call.kwargs)
            self.writer.assume(f"{call.op} -> {answer} (from activations)")
            return answer
        try:
            return call.func(*call.args, **call.kwargs)
        except (RuntimeError, NotImplementedError) as error:
            raise NeedsNumbersError(f"{call.op} reads a number of an activation") from error


def moved_to_meta(call: Call) -> Call:
    """Return the call with everything that names a device or a generator moved to meta."""
    args = tuple(META if isinstance(a, torch.device) else a for a in call.args)
    kwargs = {name: META if isinstance(a, torch.device) else a for name, a in call.kwargs.items()}
    if call.schema.takes_device and not call.tensors and META not in args:
        kwargs["device"] = META
    for name, neutral in (("pin_memory", False), ("generator", None)):
        if name in kwargs:
            kwargs[name] = neutral
    return Call.of(call.func, args, kwargs)
