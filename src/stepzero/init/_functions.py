"""The functions of torch.nn.init under their own names, with layers, any activation and seeds beyond it.

On a plain tensor, without `seed`, each hands over to torch: same values for the same generator, same errors. Beyond that:

- A layer may stand where a tensor does. Then its true fan counts (groups, stride, transposition), each gate or packed part
  is a weight of its own, weight norm and other parametrisations are written through, and padding rows stay zero.
- `nonlinearity` takes anything that `stepzero.gain` takes, and `mode` also fan_avg and fan_geo_avg.
- `seed=` and `name=` draw from the streams: the same values on every device and for every sharding.
- Where torch would silently do nothing or the wrong thing (weights that are computed, shards), the right thing is done or
  an error raised; on a bare meta tensor, where torch promises to do nothing, a warning says so.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from stepzero.laws import (
    Constant,
    Dirac,
    Distribution,
    Identity,
    Normal,
    Orthogonal,
    Recipe,
    Sparse,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    Xavier,
)  # fmt: skip
from stepzero.theory import gain as exact_gain

from ._targets import Generator, Rule, Target, is_left_to_torch, is_short, write

torch_init: Any = nn.init  # untyped: it takes and returns tensors only, a `Target` may be a layer

# The names that torch.nn.init.calculate_gain knows. Their gains stay torch's own, rounded or not (tanh 5/3, selu 3/4, sigmoid 1).
TORCH_GAINS = frozenset({
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "sigmoid", "tanh", "relu", "leaky_relu", "selu",
})  # fmt: skip


def calculate_gain(nonlinearity: Any, param: Any = None) -> float:
    """Return torch's recommended gain for the names that torch knows, and the exact one for anything else.

    Args:
        nonlinearity: A name, an activation module or a pointwise function.
        param: Negative slope of leaky_relu, or settings of another named activation.

    Raises:
        ValueError: if a slope is not a number, as torch has it; ActivationError, a ValueError, if the activation is unknown.
    """
    if isinstance(nonlinearity, str) and nonlinearity in TORCH_GAINS:
        return float(torch_init.calculate_gain(nonlinearity, param))
    return exact_gain(nonlinearity, param)


def uniform_(
    tensor: Target,
    a: float = 0.0,
    b: float = 1.0,
    generator: Generator = None,
    *,
    seed: int | None = None,
    name: str = "",
) -> Target:
    """Fill with U(a, b)."""
    if seed is None and is_left_to_torch(tensor, random=True):
        torch_init.uniform_(tensor, a, b, generator)
        return tensor
    return write(tensor, lambda slot: Uniform(a, b), generator, seed, name)


def normal_(
    tensor: Target,
    mean: float = 0.0,
    std: float = 1.0,
    generator: Generator = None,
    *,
    seed: int | None = None,
    name: str = "",
) -> Target:
    """Fill with N(mean, std²)."""
    if seed is None and is_left_to_torch(tensor, random=True):
        torch_init.normal_(tensor, mean, std, generator)
        return tensor
    return write(tensor, lambda slot: Normal(std, mean), generator, seed, name)


def trunc_normal_(
    tensor: Target,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator = None,
    *,
    seed: int | None = None,
    name: str = "",
) -> Target:
    """Fill with N(mean, std²) restricted to [a, b].

    As in torch, a and b are values, not standard deviations (std=0.02 is not cut at all by the defaults), and `std` is that of
    the parent. `stepzero.TruncatedNormal` takes the realised std and bounds in sigmas.
    """
    if seed is None and is_left_to_torch(tensor, random=True):
        torch_init.trunc_normal_(tensor, mean, std, a, b, generator)
        return tensor
    low, high = (a - mean) / std, (b - mean) / std
    realised = std / TruncatedNormal(1.0, low, high).parent_std
    return write(tensor, lambda slot: TruncatedNormal(realised, low, high), generator, seed, name, shift=mean)


def constant_(tensor: Target, val: float) -> Target:
    """Fill with one value."""
    if is_left_to_torch(tensor, random=False):
        torch_init.constant_(tensor, val)
        return tensor
    return write(tensor, lambda slot: Constant(val), None, None, "")


def ones_(tensor: Target) -> Target:
    """Fill with 1."""
    if is_left_to_torch(tensor, random=False):
        torch_init.ones_(tensor)
        return tensor
    return write(tensor, lambda slot: Constant(1.0), None, None, "")


def zeros_(tensor: Target) -> Target:
    """Fill with 0."""
    if is_left_to_torch(tensor, random=False):
        torch_init.zeros_(tensor)
        return tensor
    return write(tensor, lambda slot: Constant(0.0), None, None, "")


def eye_(tensor: Target) -> Target:
    """Fill a matrix with the identity."""
    if is_left_to_torch(tensor, random=False):
        torch_init.eye_(tensor)
        return tensor
    return write(tensor, lambda slot: Identity(), None, None, "")


def dirac_(tensor: Target, groups: int = 1) -> Target:
    """Fill a convolution such that it hands its input channels on; a layer brings its own groups."""
    if is_left_to_torch(tensor, random=False):
        torch_init.dirac_(tensor, groups)
        return tensor
    return write(tensor, lambda slot: Dirac(slot.groups if groups == 1 else groups), None, None, "")


def xavier_uniform_(
    tensor: Target, gain: float = 1.0, generator: Generator = None, *, seed: int | None = None, name: str = ""
) -> Target:
    """Fill with U(±gain·√(6/(fan_in + fan_out))) (Glorot & Bengio 2010, eq. 16)."""
    if seed is None and is_left_to_torch(tensor, random=True):
        torch_init.xavier_uniform_(tensor, gain, generator)
        return tensor
    return write(tensor, _by(Xavier(gain, "uniform")), generator, seed, name)


def xavier_normal_(
    tensor: Target, gain: float = 1.0, generator: Generator = None, *, seed: int | None = None, name: str = ""
) -> Target:
    """Fill with N(0, gain²·2/(fan_in + fan_out)) (Glorot & Bengio 2010, eq. 12)."""
    if seed is None and is_left_to_torch(tensor, random=True):
        torch_init.xavier_normal_(tensor, gain, generator)
        return tensor
    return write(tensor, _by(Xavier(gain, "normal")), generator, seed, name)


def kaiming_uniform_(
    tensor: Target,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: Any = "leaky_relu",
    generator: Generator = None,
    *,
    seed: int | None = None,
    name: str = "",
) -> Target:
    """Fill with U(±√3·gain/√fan) (He et al. 2015, eq. 10, 14).

    Args:
        tensor: A tensor, or a layer, whose true fan then counts.
        a: Negative slope; only with nonlinearity="leaky_relu".
        mode: fan_in or fan_out; also fan_avg and fan_geo_avg.
        nonlinearity: What follows the layer: anything that `stepzero.gain` takes.
        generator: Generator to draw from; None for the global one.
        seed: Draw from the streams instead.
        name: Name of the stream.
    """
    if seed is None and _torch_knows(mode, nonlinearity) and is_left_to_torch(tensor, random=True):
        torch_init.kaiming_uniform_(tensor, a, mode, nonlinearity, generator)
        return tensor
    return write(tensor, _kaiming(a, mode, nonlinearity, "uniform"), generator, seed, name)


def kaiming_normal_(
    tensor: Target,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: Any = "leaky_relu",
    generator: Generator = None,
    *,
    seed: int | None = None,
    name: str = "",
) -> Target:
    """Fill with N(0, gain²/fan); arguments as `kaiming_uniform_`."""
    if seed is None and _torch_knows(mode, nonlinearity) and is_left_to_torch(tensor, random=True):
        torch_init.kaiming_normal_(tensor, a, mode, nonlinearity, generator)
        return tensor
    return write(tensor, _kaiming(a, mode, nonlinearity, "normal"), generator, seed, name)


def orthogonal_(
    tensor: Target, gain: float = 1, generator: Generator = None, *, seed: int | None = None, name: str = ""
) -> Target:
    """Fill with gain times a (semi-)orthogonal matrix (Saxe et al. 2014); of a layer, for each gate, packed part and group."""
    if seed is None and is_left_to_torch(tensor, random=True) and not is_short(tensor):
        torch_init.orthogonal_(tensor, gain, generator)
        return tensor
    return write(tensor, lambda slot: Orthogonal(gain, slot.blocks), generator, seed, name)


def sparse_(
    tensor: Target,
    sparsity: float,
    std: float = 0.01,
    generator: Generator = None,
    *,
    seed: int | None = None,
    name: str = "",
) -> Target:
    """Fill a matrix with N(0, std²), and the share `sparsity` of zeros in every column (Martens 2010)."""
    if seed is None and is_left_to_torch(tensor, random=True):
        torch_init.sparse_(tensor, sparsity, std, generator)
        return tensor
    return write(tensor, lambda slot: Sparse(sparsity, std), generator, seed, name)


def _torch_knows(mode: Any, nonlinearity: Any) -> bool:
    """Whether torch's own function answers, be it with an error; other modes and activations are ours."""
    return isinstance(nonlinearity, str) and nonlinearity in TORCH_GAINS and mode not in ("fan_avg", "fan_geo_avg")


def _kaiming(a: float, mode: str, nonlinearity: Any, distribution: Distribution) -> Rule:
    slope = a if isinstance(nonlinearity, str) and nonlinearity == "leaky_relu" else None
    scale = calculate_gain(nonlinearity, slope) ** 2
    return _by(VarianceScaling(scale, str(mode).lower(), distribution))  # type: ignore[arg-type]  # checked by the recipe


def _by(recipe: Recipe) -> Rule:
    return lambda slot: recipe.law(slot.fans)
