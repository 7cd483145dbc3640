"""Hold what a constructor really drew against its recorded law: mean, std, bounds and the whole distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from stepzero.laws import (
    Constant,
    Copy,
    Law,
    Mapped,
    Normal,
    Norms,
    Orthogonal,
    Parts,
    Sparse,
    Sphere,
    TruncatedNormal,
    Uniform,
)
from stepzero.network import Recording, law_of_origin

MOST = 20_000  # elements of a tensor that are tested
FAR = 12  # standard deviations that no normal reaches: 1e-32 is beyond them
LOWEST = 2.0**-24  # the probability of a float32's lowest uniform number
Array = NDArray[np.float64]


def tested(found: Recording, draws: list[Mapping[str, torch.Tensor]]) -> Iterator[tuple[str, str, float]]:
    """Yield (tensor, test, p-value) for every tensor whose law is known, over all draws together.

    What is not random has the p-value 1 where every draw holds it exactly, else 0.
    """
    for name, origin in found.items():
        if not origin.known or any(name not in draw for draw in draws):
            continue
        law = law_of_origin(origin, found)
        if isinstance(law, Copy):
            if all(law.of in draw for draw in draws):
                yield name, "copy", float(all(torch.equal(draw[name], draw[law.of]) for draw in draws))
            law = law.law
        values = [draw[name].detach().double().numpy() for draw in draws]
        if isinstance(law, Norms) and law.of != name and all(law.of in draw for draw in draws):
            yield name, "lengths", float(all(_are_lengths(draw[name], draw[law.of], law.axis) for draw in draws))
        yield from ((name, test, p) for test, p in _against(law, values, origin.dtype))


def _against(law: Law, values: list[Array], dtype: torch.dtype) -> Iterator[tuple[str, float]]:
    shape = values[0].shape
    if isinstance(law, Parts):
        left = np.ones(shape, bool)
        for held, part in reversed(law.boxes(shape)):  # the later part counts
            box = tuple(slice(axis.start, axis.stop) for axis in held)
            if left[box].all():
                yield from _against(part, [value[box] for value in values], dtype)
            elif left[box].any() and isinstance(part, (Normal, Uniform, TruncatedNormal, Mapped, Constant)):
                yield from _against(part, [value[box][left[box]] for value in values], dtype)
            left[box] = False
    elif isinstance(law, (Normal, Uniform, TruncatedNormal)) and law.std > 0:
        yield from _elements(law, np.concatenate([value.reshape(-1)[: MOST // len(values)] for value in values]))
    elif isinstance(law, Mapped):
        yield from _functions(
            law, np.concatenate([value.reshape(-1)[: MOST // len(values)] for value in values]), dtype
        )
    elif isinstance(law, Sphere):
        axis = tuple(range(len(shape))) if law.axis is None else law.axis
        yield "lengths", float(all(np.allclose((v**2).sum(axis), law.radius**2, rtol=1e-5) for v in values))
    elif isinstance(law, Norms):
        second = law.moments(shape)[1]
        yield (
            "lengths, roughly",
            float(
                all(
                    np.allclose(value, np.sqrt(second), rtol=10 / math.sqrt(math.prod(law.shape) / law.count))
                    for value in values
                )
            ),
        )
    elif isinstance(law, Orthogonal):
        yield (
            "orthogonal",
            float(all(_is_orthogonal(block, law.gain) for v in values for block in np.split(v, law.blocks))),
        )
    elif isinstance(law, Sparse):
        zeros = [(value == 0).sum(0) for value in values]
        yield "zeros", float(all((count == law.zeros(shape)).all() for count in zeros))
        yield from _elements(Normal(law.std), np.concatenate([value[value != 0][:MOST] for value in values]))
    else:
        exact = torch.from_numpy(np.broadcast_to(law.moments(shape)[0], shape).copy()).to(dtype).double().numpy()
        yield "numbers", float(all(np.allclose(value, exact, rtol=1e-6, atol=0) for value in values))


def _elements(law: Any, flat: Array) -> Iterator[tuple[str, float]]:
    """Test elements that are drawn alike and independently; bounds with a float32's rounding to spare.

    A normal through erfinv (timm, mmengine) is its bound, often 100 standard deviations away, wherever a float32's uniform
    number is the lowest of its 2^24. Those are counted, against a Poisson law of that rate, and left out of the rest.
    """
    if not flat.size:
        return
    within = distribution(law)
    if isinstance(law, Normal):
        far = abs(flat - law.mean) > FAR * law.std
        yield "far out", float(stats.poisson.sf(far.sum() - 1, LOWEST * far.size))
        flat = flat[~far]
    yield "distribution", float(stats.kstest(flat, within.cdf).pvalue)
    low, high = within.support()
    yield "bounds", float(flat.min() >= low - 1e-6 * law.std and flat.max() <= high + 1e-6 * law.std)
    if flat.size >= 30:  # where the central limit holds
        excess = float(within.stats("k"))
        mean, second = flat.mean() - within.mean(), ((flat - within.mean()) ** 2).mean() / within.var()
        yield "mean", float(2 * stats.norm.sf(abs(mean) / within.std() * math.sqrt(flat.size)))
    if flat.size >= 1000:
        yield "std", float(2 * stats.norm.sf(abs(second - 1) / math.sqrt((excess + 2) / flat.size)))


def _functions(law: Mapped, flat: Array, dtype: torch.dtype) -> Iterator[tuple[str, float]]:
    """Test functions of draws against their values at evenly spaced quantiles of the draw.

    Where a bound lumps many values together, each gets a place of its own within the lump: the probability integral transform
    is uniform then (Rosenblatt 1952; Brockwell 2007, for laws with atoms).
    """
    within = distribution(law.law)
    levels = np.sort(law.of(within.ppf((np.arange(2**17) + 0.5) / 2**17)))
    step = 2.0 ** (-20 if dtype.itemsize >= 4 else -8)  # of rounding: what is as near to an atom belongs to it
    low, high = (
        np.searchsorted(levels, flat + sign * step * abs(flat), side) for sign, side in ((-1, "left"), (1, "right"))
    )
    within_lump = np.random.default_rng(0).random(flat.size)
    yield "distribution", float(stats.kstest((low + within_lump * (high - low)) / levels.size, "uniform").pvalue)
    if flat.size >= 30:
        yield "mean", float(2 * stats.norm.sf(abs(flat.mean() - law.mean) / law.std * math.sqrt(flat.size)))


def _are_lengths(gains: torch.Tensor, of: torch.Tensor, axis: int | None) -> bool:
    along = [other for other in range(of.dim()) if other != axis]
    return bool(torch.allclose(gains.double().flatten(), of.double().square().sum(along).sqrt().flatten(), rtol=1e-5))


def distribution(law: Normal | Uniform | TruncatedNormal) -> Any:
    """Return a law as scipy has it."""
    if isinstance(law, Normal):
        return stats.norm(law.mean, law.std)
    if isinstance(law, Uniform):
        return stats.uniform(law.low, law.high - law.low)
    return stats.truncnorm(law.low, law.high, scale=law.parent_std)


def _is_orthogonal(block: Array, gain: float) -> bool:
    matrix = block.reshape(len(block), -1)
    matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    return bool(np.allclose(matrix @ matrix.T, gain**2 * np.eye(len(matrix)), atol=1e-4 * gain**2))
