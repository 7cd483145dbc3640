"""NumPy first: the named initialisers as functions that return arrays, without any framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from stepzero.theory import FanMode, fans, gain

from ._base import Law
from ._elementwise import Normal, Sparse, TruncatedNormal, Uniform
from ._matrices import DeltaOrthogonal, Dirac, Identity, Orthogonal
from ._recipes import Distribution, Kaiming, LeCun, Recipe, VarianceScaling, Xavier

Array = NDArray[Any]
Sizes = Sequence[int]


def kaiming_uniform(
    shape: Sizes,
    a: float = 0.0,
    mode: FanMode = "fan_in",
    seed: int = 0,
    name: str = "",
    *,
    nonlinearity: Any = None,
    dtype: str = "float32",
    **geometry: Any,
) -> Array:
    """Return U(±√3·gain/√fan) values that hold the second moment through an activation (He et al. 2015, eq. 10, 14).

    Args:
        shape: Shape of the weight [out, in, *kernel].
        a: Negative slope of a leaky ReLU; 0 is ReLU.
        mode: fan_in holds the forward pass, fan_out the backward pass; fan_avg and fan_geo_avg are between.
        seed: 0 ≤ seed < 2^64.
        name: Name of the parameter; another name gives independent values.
        nonlinearity: Anything that `gain` takes, in place of `a`.
        dtype: float32, float64, float16, bfloat16 (as 16-bit words), complex64 or complex128.
        **geometry: What `fans` has to know about the weight: groups, stride, transposed, layout, …

    Raises:
        FanError: if the shape has no fan.
        RecipeError: if the mode is unknown, or a is not finite.
        ActivationError: if the nonlinearity is unknown.
        SeedError: if the seed is out of range.

    Examples:
        >>> weight = kaiming_uniform((32, 1, 5, 5))
        >>> weight.shape, bool(abs(weight).max() < (6 / 25) ** 0.5)   # the bound is √3·√(2/25)
        ((32, 1, 5, 5), True)
    """
    return _by(_kaiming(a, mode, "uniform", nonlinearity), shape, seed, name, dtype, geometry)


def kaiming_normal(
    shape: Sizes,
    a: float = 0.0,
    mode: FanMode = "fan_in",
    seed: int = 0,
    name: str = "",
    *,
    nonlinearity: Any = None,
    dtype: str = "float32",
    **geometry: Any,
) -> Array:
    """Return N(0, gain²/fan) values; arguments and errors as `kaiming_uniform`."""
    return _by(_kaiming(a, mode, "normal", nonlinearity), shape, seed, name, dtype, geometry)


def xavier_uniform(
    shape: Sizes, gain: float = 1.0, seed: int = 0, name: str = "", *, dtype: str = "float32", **geometry: Any
) -> Array:
    """Return U(±gain·√(6/(fan_in + fan_out))) values (Glorot & Bengio 2010, eq. 16); errors as `kaiming_uniform`."""
    return _by(Xavier(gain), shape, seed, name, dtype, geometry)


def xavier_normal(
    shape: Sizes, gain: float = 1.0, seed: int = 0, name: str = "", *, dtype: str = "float32", **geometry: Any
) -> Array:
    """Return N(0, gain²·2/(fan_in + fan_out)) values (Glorot & Bengio 2010, eq. 12); errors as `kaiming_uniform`."""
    return _by(Xavier(gain, "normal"), shape, seed, name, dtype, geometry)


def lecun_uniform(
    shape: Sizes, gain: float = 1.0, seed: int = 0, name: str = "", *, dtype: str = "float32", **geometry: Any
) -> Array:
    """Return U(±gain·√(3/fan_in)) values (LeCun et al. 1998, eq. 16); errors as `kaiming_uniform`."""
    return _by(LeCun(gain), shape, seed, name, dtype, geometry)


def lecun_normal(
    shape: Sizes, gain: float = 1.0, seed: int = 0, name: str = "", *, dtype: str = "float32", **geometry: Any
) -> Array:
    """Return normal values of variance gain²/fan_in, cut at ±2σ as Keras and JAX do; errors as `kaiming_uniform`."""
    return _by(LeCun(gain, "truncated_normal"), shape, seed, name, dtype, geometry)


def variance_scaling(
    shape: Sizes,
    scale: float = 1.0,
    mode: FanMode = "fan_in",
    distribution: Distribution = "truncated_normal",
    seed: int = 0,
    name: str = "",
    *,
    dtype: str = "float32",
    **geometry: Any,
) -> Array:
    """Return zero-mean values of variance scale/fan; errors as `kaiming_uniform`."""
    return _by(VarianceScaling(scale, mode, distribution), shape, seed, name, dtype, geometry)


def uniform(
    shape: Sizes, low: float = 0.0, high: float = 1.0, seed: int = 0, name: str = "", *, dtype: str = "float32"
) -> Array:
    """Return U(low, high) values."""
    return _draw(Uniform(low, high), shape, seed, name, dtype)


def normal(
    shape: Sizes, mean: float = 0.0, std: float = 1.0, seed: int = 0, name: str = "", *, dtype: str = "float32"
) -> Array:
    """Return N(mean, std²) values."""
    return _draw(Normal(std, mean), shape, seed, name, dtype)


def truncated_normal(
    shape: Sizes,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    seed: int = 0,
    name: str = "",
    *,
    dtype: str = "float32",
) -> Array:
    """Return values of a normal cut at `low` and `high` of its own standard deviations, whose realised std is `std`."""
    return _draw(TruncatedNormal(std, low, high), shape, seed, name, dtype)


def orthogonal(
    shape: Sizes, gain: float = 1.0, seed: int = 0, name: str = "", *, blocks: int = 1, dtype: str = "float32"
) -> Array:
    """Return gain times a (semi-)orthogonal matrix [out, in·kernel], in `blocks` of rows (Saxe et al. 2014)."""
    return _draw(Orthogonal(gain, blocks), shape, seed, name, dtype)


def delta_orthogonal(
    shape: Sizes, gain: float = 1.0, seed: int = 0, name: str = "", *, dtype: str = "float32"
) -> Array:
    """Return gain times an orthogonal matrix on the centre tap, zero elsewhere (Xiao et al. 2018)."""
    return _draw(DeltaOrthogonal(gain), shape, seed, name, dtype)


def dirac(shape: Sizes, groups: int = 1, *, dtype: str = "float32") -> Array:
    """Return a convolution that hands its input channels on."""
    return _draw(Dirac(groups), shape, 0, "", dtype)


def identity(shape: Sizes, gain: float = 1.0, *, dtype: str = "float32") -> Array:
    """Return `gain` on the diagonal of a matrix, zero elsewhere."""
    return _draw(Identity(gain), shape, 0, "", dtype)


def sparse(
    shape: Sizes, sparsity: float, std: float = 0.01, seed: int = 0, name: str = "", *, dtype: str = "float32"
) -> Array:
    """Return N(0, std²) values with the share `sparsity` of zeros in every column (Martens 2010)."""
    return _draw(Sparse(sparsity, std), shape, seed, name, dtype)


def _kaiming(a: float, mode: FanMode, distribution: Distribution, nonlinearity: Any) -> Recipe:
    return (
        Kaiming(a, mode, distribution)
        if nonlinearity is None
        else VarianceScaling(gain(nonlinearity) ** 2, mode, distribution)
    )


def _by(recipe: Recipe, shape: Sizes, seed: int, name: str, dtype: str, geometry: dict[str, Any]) -> Array:
    return _draw(recipe.law(fans(shape, **geometry)), shape, seed, name, dtype)


def _draw(law: Law, shape: Sizes, seed: int, name: str, dtype: str) -> Array:
    return law.draw(tuple(shape), seed=seed, name=name, dtype=dtype)
