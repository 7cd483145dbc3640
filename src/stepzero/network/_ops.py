"""What an op's schema says: its normalised name, its arguments by name, what it reads and what it writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import torch

# Arguments of which an op reads the shape or type alone: no signal passes.
SHAPE_ONLY: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "reshape_as": frozenset({"other"}),
        "view_as": frozenset({"other"}),
        "expand_as": frozenset({"other"}),
        "type_as": frozenset({"other"}),
        "zeros_like": frozenset({"self"}),
        "ones_like": frozenset({"self"}),
        "empty_like": frozenset({"self"}),
        "full_like": frozenset({"self"}),
        "rand_like": frozenset({"self"}),
        "randn_like": frozenset({"self"}),
        "randint_like": frozenset({"self"}),
        "new_empty": frozenset({"self"}),
        "new_empty_strided": frozenset({"self"}),
        "new_zeros": frozenset({"self"}),
        "new_ones": frozenset({"self"}),
        "new_full": frozenset({"self"}),
    }
)
# Arguments that an in-place op overwrites whole: what was there does not matter.
OVERWRITTEN = frozenset(
    {
        "copy",
        "fill",
        "zero",
        "normal",
        "uniform",
        "bernoulli",
        "exponential",
        "random",
        "geometric",
        "log_normal",
        "cauchy",
    }
)


@dataclass(frozen=True, slots=True)
class Schema:
    """The parts of an overload's schema that recording needs."""

    op: str
    names: tuple[str, ...]  # positional arguments first, then keyword-only ones
    defaults: Mapping[str, Any]
    written: frozenset[str]
    shape_only: frozenset[str]
    views: bool  # writes only shape and strides (unsqueeze_), no element
    random: bool
    aliases: bool  # may return a view of an argument
    answers: bool  # returns a number or a bool, no tensor
    takes_device: bool

    def overwrites(self, call: Call, tensor: torch.Tensor) -> bool:
        """Say whether a tensor is written without being read."""
        names = self.written & self.shape_only
        return any(t is tensor for name in names for t in tensors_of(call.arguments[name]))


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one op."""

    func: Any
    schema: Schema
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    arguments: dict[str, Any]  # all of them by name, defaults filled in

    @classmethod
    def of(cls, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Return the call of an `OpOverload` with these arguments."""
        schema = schema_of(func)
        return cls(func, schema, args, kwargs, arguments_of(schema, args, kwargs))

    @property
    def op(self) -> str:
        return self.schema.op

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Every tensor among the arguments, in the order of the schema."""
        return [t for argument in self.arguments.values() for t in tensors_of(argument)]

    @property
    def read(self) -> list[torch.Tensor]:
        """The tensors whose numbers the op reads."""
        return [t for n, a in self.arguments.items() if n not in self.schema.shape_only for t in tensors_of(a)]

    @property
    def written(self) -> list[torch.Tensor]:
        """The tensors that the op overwrites."""
        return [t for n, a in self.arguments.items() if n in self.schema.written for t in tensors_of(a)]

    def __str__(self) -> str:
        """Say the op and the shapes that it was given: `linear((2, 3), (4, 3), (4,))`."""
        return f"{self.op}({', '.join(str(tuple(t.shape)) for t in self.tensors)})"


@cache
def schema_of(func: Any) -> Schema:
    """Return what the schema of an `OpOverload` says."""
    schema, op = func._schema, op_name(func)
    written = frozenset(a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write)
    overwritten = written if op in OVERWRITTEN or "out" in written else frozenset()
    return Schema(
        op=op,
        names=tuple(a.name for a in schema.arguments),
        defaults=MappingProxyType({a.name: a.default_value for a in schema.arguments if a.has_default_value()}),
        written=written,
        shape_only=SHAPE_ONLY.get(op, frozenset()) | overwritten,
        views=torch.Tag.inplace_view in func.tags,
        random=torch.Tag.nondeterministic_seeded in func.tags,
        aliases=any(a.alias_info is not None and not a.alias_info.is_write for a in schema.arguments),
        answers=bool(schema.returns) and not any("Tensor" in str(r.type) for r in schema.returns),
        takes_device=any(a.name == "device" for a in schema.arguments),
    )


def op_name(func: Any) -> str:
    """Return the normalised name: overload and in-place underscore dropped, namespace kept unless it is aten.

    Examples:
        >>> op_name(torch.ops.aten.add_.Tensor)
        'add'
        >>> op_name(torch.ops.prims.convert_element_type.default)
        'prims::convert_element_type'
    """
    namespace, _, name = func._schema.name.partition("::")
    if name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    elif name.startswith("__i") and name.endswith("__") and any(a.alias_info for a in func._schema.arguments):
        name = "__" + name[3:]  # __iand__ → __and__
    return name if namespace == "aten" else f"{namespace}::{name}"


def arguments_of(schema: Schema, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return every argument by its schema name, defaults filled in."""
    given = dict(zip(schema.names, args, strict=False)) | dict(kwargs)
    return {name: given.get(name, schema.defaults.get(name)) for name in schema.names}


def is_random(call: Call) -> bool:
    """Say whether this call draws: dropout in eval mode and attention without dropout do not."""
    arguments = call.arguments
    if not call.schema.random:
        return False
    if arguments.get("train") is False or arguments.get("training") is False:
        return False
    return not any(arguments.get(rate, 1) == 0 for rate in ("dropout_p", "dropout"))


def tensors_of(argument: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of one argument: itself, or the members of a list."""
    if isinstance(argument, torch.Tensor):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for part in argument:
            yield from tensors_of(part)
