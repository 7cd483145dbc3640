"""Every activation that has a name: who makes it, how else it is spelt, which names have no gain and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from . import _piecewise as piecewise
from . import _smooth as smooth
from ._elementwise import Elementwise
from ._units import Unit, gated, prelu, prelu_module, rrelu

ACTIVATIONS: Mapping[str, Callable[..., Elementwise | Unit]] = MappingProxyType(
    {
        # piecewise linear
        "linear": piecewise.identity,
        "relu": piecewise.relu,
        "leaky_relu": piecewise.leaky_relu,
        "prelu": prelu,
        "rrelu": rrelu,
        "relu6": piecewise.relu6,
        "threshold": piecewise.threshold,
        "hardtanh": piecewise.hardtanh,
        "hardsigmoid": piecewise.hardsigmoid,
        "hardshrink": piecewise.hardshrink,
        "softshrink": piecewise.softshrink,
        "sparse_sigmoid": piecewise.sparse_sigmoid,
        "abs": piecewise.absolute,
        # piecewise smooth
        "relu_squared": piecewise.relu_squared,
        "hardswish": piecewise.hardswish,
        "elu": piecewise.elu,
        "celu": piecewise.celu,
        "selu": piecewise.selu,
        "softsign": piecewise.softsign,
        "sparse_plus": piecewise.sparse_plus,
        # smooth
        "sigmoid": smooth.sigmoid,
        "logsigmoid": smooth.logsigmoid,
        "softplus": smooth.softplus,
        "squareplus": smooth.squareplus,
        "tanh": smooth.tanh,
        "lecun_tanh": smooth.lecun_tanh,
        "tanhshrink": smooth.tanhshrink,
        "gelu": smooth.gelu,
        "gelu_tanh": smooth.gelu_tanh,
        "quick_gelu": smooth.quick_gelu,
        "silu": smooth.silu,
        "mish": smooth.mish,
        "sin": smooth.sine,
        "cos": smooth.cosine,
        "exp": smooth.exponential,
        "gaussian": smooth.gaussian,
        "square": smooth.square,
        "erf": smooth.error_function,
        "atan": smooth.arctangent,
        # gated products
        "glu": gated("glu", smooth.sigmoid),
        "bilinear": gated("bilinear", piecewise.identity),
        "reglu": gated("reglu", piecewise.relu),
        "geglu": gated("geglu", smooth.gelu),
        "geglu_tanh": gated("geglu_tanh", smooth.gelu_tanh),
        "swiglu": gated("swiglu", smooth.silu),
    }
)

# Other spellings. Case, underscores, hyphens and blanks make no difference.
ALIASES: Mapping[str, str] = MappingProxyType({
    "identity": "linear", "none": "linear",
    # torch.nn.init.calculate_gain takes these names for "no activation"
    "conv1d": "linear", "conv2d": "linear", "conv3d": "linear",
    "conv_transpose1d": "linear", "conv_transpose2d": "linear", "conv_transpose3d": "linear",
    "hard_silu": "hardswish", "hswish": "hardswish", "hsigmoid": "hardsigmoid",  # JAX, Keras, MobileNetV3
    "swish": "silu", "gelu_approximate": "gelu_tanh", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "gelu_python": "gelu", "relu2": "relu_squared", "squared_relu": "relu_squared",
    "sqrrelu": "relu_squared", "exponential": "exp", "sine": "sin", "cosine": "cos", "siren": "sin",
    "arctan": "atan", "absolute": "abs", "shrink": "softshrink",
})  # fmt: skip

_ALL_AXIS = "it mixes elements (its outputs sum over an axis), so no pointwise integral describes it; `plan` follows it through the net."

REFUSED: Mapping[str, str] = MappingProxyType({
    "softmax": _ALL_AXIS, "softmin": _ALL_AXIS, "softmax2d": _ALL_AXIS, "log_softmax": _ALL_AXIS, "sparsemax": _ALL_AXIS,
    "standardize": "it is a normalisation: what comes out has second moment 1 whatever comes in. Use 'linear'.",
    "multihead_attention": "it is a layer with weights of its own; `plan` follows it through the net.",
    "maxout": "it takes the largest of several preactivations, so its gain depends on how many. Give the function to `plan`.",
    "dropout": "it is random; it multiplies the second moment by 1/(1 − p) in training.",
})  # fmt: skip

REFUSED_MODULES: Mapping[str, str] = MappingProxyType({
    "Softmax": "softmax", "Softmin": "softmin", "Softmax2d": "softmax2d", "LogSoftmax": "log_softmax",
    "MultiheadAttention": "multihead_attention", "_DropoutNd": "dropout",
})  # fmt: skip

# How to read the settings of torch's activation modules.
MODULES: Mapping[str, Callable[[Any], Elementwise | Unit]] = MappingProxyType(
    {
        "Identity": lambda m: piecewise.identity(),
        "ReLU": lambda m: piecewise.relu(),
        "LeakyReLU": lambda m: piecewise.leaky_relu(m.negative_slope),
        "PReLU": prelu_module,
        "RReLU": lambda m: rrelu(m.lower, m.upper, m.training),
        "ReLU6": lambda m: piecewise.relu6(),
        "Threshold": lambda m: piecewise.threshold(m.threshold, m.value),
        "Hardtanh": lambda m: piecewise.hardtanh(m.min_val, m.max_val),
        "Hardsigmoid": lambda m: piecewise.hardsigmoid(),
        "Hardshrink": lambda m: piecewise.hardshrink(m.lambd),
        "Softshrink": lambda m: piecewise.softshrink(m.lambd),
        "Hardswish": lambda m: piecewise.hardswish(),
        "ELU": lambda m: piecewise.elu(m.alpha),
        "CELU": lambda m: piecewise.celu(m.alpha),
        "SELU": lambda m: piecewise.selu(),
        "Softsign": lambda m: piecewise.softsign(),
        "Sigmoid": lambda m: smooth.sigmoid(),
        "LogSigmoid": lambda m: smooth.logsigmoid(),
        "Softplus": lambda m: smooth.softplus(m.beta, m.threshold),
        "Tanh": lambda m: smooth.tanh(),
        "Tanhshrink": lambda m: smooth.tanhshrink(),
        "GELU": lambda m: smooth.gelu(m.approximate),
        "SiLU": lambda m: smooth.silu(),
        "Mish": lambda m: smooth.mish(),
        "GLU": lambda m: gated("glu", smooth.sigmoid)(),
    }
)
