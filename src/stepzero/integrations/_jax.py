"""`stepzero-v1` for JAX: the same bits on its devices, from 32-bit integers alone, so that no 64-bit mode is needed."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stepzero import streams
from stepzero.errors import LawError
from stepzero.laws import Law
from stepzero.streams import Draw, Key, Region

Words = Any  # a JAX array of uint32


def jax_draw(
    law: Law,
    shape: tuple[int, ...],
    seed: int,
    name: str,
    dtype: str = "float32",
    *,
    index: Region | None = None,
    sharding: Any = None,
) -> Any:
    """Return a JAX array with the values that every other path draws for (seed, name).

    Laws drawn element by element around 0 are made on the device; those with a mean, which is added in binary64, and those of whole
    matrices are made on the host and moved.

    Args:
        law: Distribution of the whole tensor.
        shape: Shape of the whole tensor.
        seed: 0 ≤ seed < 2^64.
        name: Canonical name of the parameter.
        dtype: float32, float16, bfloat16 or complex64; float64 and complex128 in JAX's 64-bit mode.
        index: The region to return; all of it by default.
        sharding: A `jax.sharding.Sharding`: each device gets its own shard, made on its host.

    Raises:
        LawError: if the law cannot be drawn for this shape or dtype.
        SeedError: if the seed is out of range.
    """
    kind, region = streams.storage(dtype), index or Region(tuple(shape))
    streams.require_drawable(law, region.full_shape, kind)
    key = partial(streams.key, seed, name)
    key()
    if jax.dtypes.canonicalize_dtype(_numpy_type(dtype)) != _numpy_type(dtype):
        raise LawError(f"{dtype} needs JAX's 64-bit mode. Set jax_enable_x64, or take float32.")
    host = partial(_host, law, seed, name, dtype)
    if sharding is not None:
        return jax.make_array_from_callback(region.shape, sharding, lambda cut: host(region[cut]))
    simple = streams.plain(law)
    if type(simple) not in streams.DRAWS or simple.mean or not region.size:
        return jnp.asarray(host(region))
    if kind.parts == 1:
        return _device(streams.draw_of(simple), key(), region).astype(_numpy_type(dtype))
    half = streams.draw_of(simple, math.sqrt(0.5))
    return lax.complex(_device(half, key("re"), region), _device(replace(half, shift=0.0), key("im"), region)).astype(
        dtype
    )


def _numpy_type(dtype: str) -> np.dtype[Any]:
    return np.dtype(jnp.bfloat16 if dtype == "bfloat16" else dtype)


def _host(law: Law, seed: int, name: str, dtype: str, region: Region) -> Any:
    values = np.empty(region.shape, streams.storage(dtype).numpy)
    streams.fill(values, law, seed, name, region, dtype=dtype, threads=None)
    return values.view(_numpy_type(dtype))


def _device(draw: Draw, key: Key, region: Region) -> Any:
    starts, width = region.runs()
    first, skip = starts >> np.uint64(2), (starts & np.uint64(3)).astype(np.uint32)
    low, high = first.astype(np.uint32), (first >> np.uint64(32)).astype(np.uint32)
    numbers = tuple(np.uint32(number) for number in (*key, draw.low, draw.span % 2**32))
    cut = draw.span != 2**32
    return _values(low, high, skip, numbers, draw.scale, draw.clamp, _tables(), width, draw.kind, cut).reshape(
        region.shape
    )


@partial(jax.jit, static_argnums=(7, 8, 9))
def _values(
    low: Words, high: Words, skip: Words, numbers: tuple[Words, ...], scale: Any, clamp: Any, tables: Any, width: int, kind: str, cut: bool
) -> Any:  # fmt: skip
    word = _words(low, high, skip, numbers[:4], width)
    if cut:
        word = numbers[4] + _product(word, numbers[5])[0]
    value = (_uniform(word) if kind == "uniform" else _normal(word, tables)) * scale
    return jnp.clip(value, *clamp) if cut else value


def _words(low: Words, high: Words, skip: Words, key: tuple[Words, ...], width: int) -> Words:
    """Return the words of `width` elements from each start, given as block number (in two halves) and place in the block."""
    count = (3 + width + 3) // 4
    x0 = low[:, None] + jnp.arange(count, dtype=jnp.uint32)
    x1 = jnp.broadcast_to(high[:, None], x0.shape) + (x0 < low[:, None])  # the carry
    covered = jnp.stack(_philox(x0, x1, *key), axis=-1).reshape(len(low), -1)
    return jnp.take_along_axis(covered, skip[:, None] + jnp.arange(width, dtype=jnp.uint32), axis=1)


def _philox(x0: Words, x1: Words, k0: Words, k1: Words, c2: Words, c3: Words) -> tuple[Words, ...]:
    x2, x3 = jnp.full_like(x0, c2), jnp.full_like(x0, c3)
    for turn in range(streams.ROUNDS):
        (p_high, p_low), (q_high, q_low) = (
            _product(x, np.uint32(multiplier)) for x, multiplier in zip((x0, x2), streams.MULTIPLIERS, strict=True)
        )
        a, e = (k + np.uint32(turn * step % 2**32) for k, step in zip((k0, k1), streams.WEYL, strict=True))
        x0, x1, x2, x3 = q_high ^ x1 ^ a, q_low, p_high ^ x3 ^ e, p_low
    return x0, x1, x2, x3


def _product(x: Words, y: Words) -> tuple[Words, Words]:
    """Return the upper and the lower 32 bits of a product, from products of halves."""
    half = np.uint32(0xFFFF)
    (x_high, x_low), (y_high, y_low) = ((z >> 16, z & half) for z in (x, y))
    middle, cross = x_high * y_low, x_low * y_high
    carry = ((x_low * y_low) >> 16) + (middle & half) + (cross & half)
    return x_high * y_high + (middle >> 16) + (cross >> 16) + (carry >> 16), x * y


def _uniform(word: Words) -> Any:
    return ((word >> 8).astype(jnp.int32) * 2 + (1 - 2**24)).astype(jnp.float32)


def _normal(level: Words, tables: Any) -> Any:
    below = level < np.uint32(2**31)
    mirrored = jnp.where(below, level, ~level) | np.uint32(1)
    u = lax.bitcast_convert_type(mirrored.astype(jnp.int32).astype(jnp.float32), jnp.uint32) - np.uint32(127 << 23)
    t = u & np.uint32(2**18 - 1)
    c0, c1, c2 = (table[u >> 18] for table in tables)
    high, low = _product(c1 - ((c2 * t) >> 17), t)
    z = (c0 - ((high << 14) | (low >> 18))).astype(jnp.int32)
    return jnp.where(below, -z, z).astype(jnp.float32)


@lru_cache(maxsize=1)
def _tables() -> tuple[Any, ...]:
    """Return the three coefficients of each cell, 32 bits each."""
    cells = streams.table()
    return tuple(
        (cells >> np.uint64(shift)).astype(np.uint32) & np.uint32(mask)
        for shift, mask in ((34, 2**30 - 1), (13, 2**21 - 1), (0, 2**13 - 1))
    )
