"""How kernels are compiled, and what Python cannot say: full vector width, words woven into order, stores past the caches."""

# Intrinsics are read by the compiler, which gives their arguments types of its own.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_Function = TypeVar("_Function", bound=Callable[..., Any])
VECTOR = 64  # bytes; machines with narrower vectors take several
_I32 = ir.IntType(32)


def kernel(function: _Function) -> _Function:
    """Compile a function that releases the GIL, and keep the code between processes.

    A kernel may call those of its own file alone: the kept code is made anew when that file changes, and no other.
    """
    try:
        compiled: _Function = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep compiled code in: compile again in each process
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled


@intrinsic
def wide_vectors(typing_context):
    """Ask for 512-bit vectors in the function that calls this; compilers avoid them by default, and lose a third here."""

    def mark(context, builder, signature, arguments):
        wide = '"prefer-vector-width"="512"'
        set.add(builder.function.attributes, wide)  # the mapping's own `add` knows no such name
        return context.get_dummy_value()

    return types.void(), mark


@intrinsic
def weave(typing_context, cells, first, second, place, streamed):
    """Take pairs of values in turns from two addresses, a vector of each, and store them as two vectors at a third.

    Args:
        typing_context: The compiler's.
        cells: Any array of the number format.
        first: Address of the pairs (0, 1), (4, 5) …
        second: Address of the pairs (2, 3), (6, 7) …
        place: Where 0, 1, 2, 3 … are to stand; a multiple of 64 where they are streamed.
        streamed: Go past the caches: a store to memory that nobody reads soon then need not fetch it first.
    """

    def emit(context, builder, signature, arguments):
        pair = ir.IntType(2 * signature.args[0].dtype.bitwidth)
        lanes = 8 * VECTOR // pair.width
        vector = ir.VectorType(pair, lanes)
        first, second, place = (builder.inttoptr(address, vector.as_pointer()) for address in arguments[1:4])
        woven = [_woven(builder, builder.load(first, align=8), builder.load(second, align=8), half) for half in (0, 1)]
        hint = builder.module.add_metadata([ir.Constant(_I32, 1)])
        with builder.if_else(arguments[4]) as (past_caches, through_caches):
            for branch, align in ((past_caches, VECTOR), (through_caches, pair.width // 16)):
                with branch:
                    for half in (0, 1):
                        at = builder.gep(place, [ir.Constant(_I32, half)])
                        store = builder.store(woven[half], at, align=align)
                        if align == VECTOR:
                            store.set_metadata("nontemporal", hint)
        return context.get_dummy_value()

    return types.void(cells, types.uintp, types.uintp, types.uintp, types.boolean), emit


@intrinsic
def fence(typing_context):
    """Let no later store overtake a streamed one."""

    def emit(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), emit


def _woven(builder, first, second, half):
    lanes = first.type.count
    turns = [half * lanes // 2 + i // 2 + lanes * (i % 2) for i in range(lanes)]
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(_I32, lanes), turns))
