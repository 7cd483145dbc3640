"""Every named activation against torch's own function, its gradient, and arbitrary-precision integrals."""

from functools import cache

import mpmath as mp
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules import activation as torch_activations

from stepzero.errors import ActivationError
from stepzero.theory import ACTIVATIONS, ALIASES, activation, unit

NEEDS = {"threshold": (0.5, -1.0)}


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def softplus(x):
    return mp.log1p(mp.exp(x)) if x < 40 else x


def hard(x):
    return min(max(x + 3, 0), 6) / 6


def gauss_cdf(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def gelu_tanh(x):
    return x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)))


SELU = mp.mpf("1.0507009873554804934193349852946"), mp.mpf("1.6732632423543772848170429916717")

# Written from the papers a second time, in another arithmetic: name → (φ, places where it bends).
EXACT = {
    "linear": (lambda x: x, ()),
    "relu": (lambda x: max(x, 0), (0,)),
    "leaky_relu": (lambda x: x if x > 0 else x / 100, (0,)),
    "prelu": (lambda x: x if x > 0 else x / 4, (0,)),
    "relu6": (lambda x: min(max(x, 0), 6), (0, 6)),
    "threshold": (lambda x: x if x > 0.5 else -1, (0.5,)),
    "hardtanh": (lambda x: min(max(x, -1), 1), (-1, 1)),
    "hardsigmoid": (hard, (-3, 3)),
    "hardshrink": (lambda x: x if abs(x) > 0.5 else 0, (-0.5, 0.5)),
    "softshrink": (lambda x: x - mp.sign(x) / 2 if abs(x) > 0.5 else 0, (-0.5, 0.5)),
    "sparse_sigmoid": (lambda x: min(max((x + 1) / 2, 0), 1), (-1, 1)),
    "abs": (abs, (0,)),
    "relu_squared": (lambda x: max(x, 0) ** 2, (0,)),
    "hardswish": (lambda x: x * hard(x), (-3, 3)),
    "elu": (lambda x: x if x > 0 else mp.expm1(x), (0,)),
    "celu": (lambda x: x if x > 0 else mp.expm1(x), (0,)),
    "selu": (lambda x: SELU[0] * (x if x > 0 else SELU[1] * mp.expm1(x)), (0,)),
    "softsign": (lambda x: x / (1 + abs(x)), (0,)),
    "sparse_plus": (lambda x: x if x >= 1 else max(x + 1, 0) ** 2 / 4, (-1, 1)),
    "sigmoid": (sigmoid, ()),
    "logsigmoid": (lambda x: -softplus(-x), ()),
    "softplus": (softplus, ()),
    "squareplus": (lambda x: (x + mp.sqrt(x**2 + 4)) / 2, ()),
    "tanh": (mp.tanh, ()),
    "lecun_tanh": (lambda x: mp.mpf("1.7159") * mp.tanh(2 * x / 3), ()),
    "tanhshrink": (lambda x: x - mp.tanh(x), ()),
    "gelu": (lambda x: x * gauss_cdf(x), ()),
    "gelu_tanh": (gelu_tanh, ()),
    "quick_gelu": (lambda x: x * sigmoid(mp.mpf("1.702") * x), ()),
    "silu": (lambda x: x * sigmoid(x), ()),
    "mish": (lambda x: x * mp.tanh(softplus(x)), ()),
    "sin": (mp.sin, ()),
    "cos": (mp.cos, ()),
    "exp": (mp.exp, ()),
    "gaussian": (lambda x: mp.exp(-(x**2)), ()),
    "square": (lambda x: x**2, ()),
    "erf": (mp.erf, ()),
    "atan": (mp.atan, ()),
}
GATES = {
    "glu": "sigmoid",
    "bilinear": "linear",
    "reglu": "relu",
    "geglu": "gelu",
    "geglu_tanh": "gelu_tanh",
    "swiglu": "silu",
}


@cache
def exact_integrals(name):
    """E[φ], E[φ²] and E[φ'²] to 18 digits."""
    phi, kinks = EXACT[name]
    cuts = [-15, *sorted({-4, 0, 4, *kinks}), 15]

    def slope(x):
        return mp.diff(phi, x)

    with mp.workdps(18):
        return tuple(
            float(mp.quad(lambda z, g=g: g(z) * mp.npdf(z), cuts))
            for g in (phi, lambda z: phi(z) ** 2, lambda z: slope(z) ** 2)
        )


def test_every_name_of_the_table_is_checked():
    assert {*EXACT, *GATES, "rrelu"} == set(ACTIVATIONS)


@pytest.mark.parametrize("name", EXACT)
def test_a_named_activation_has_its_exact_moments(name):
    mean, second, slope = exact_integrals(name)
    found = activation(name, NEEDS.get(name))
    assert found.mean == pytest.approx(mean, abs=1e-10)
    assert found.second_moment == pytest.approx(second, rel=1e-10)
    assert found.gradient_second_moment == pytest.approx(slope, rel=1e-10)


@pytest.mark.parametrize(("name", "inner"), GATES.items())
def test_a_gated_product_has_the_moments_of_two_independent_halves(name, inner):
    _, second, slope = exact_integrals(inner)
    found = activation(name)
    assert found.mean == 0
    assert found.second_moment == pytest.approx(second, rel=1e-10)  # E[a²] = 1
    assert found.gradient_second_moment == pytest.approx((second + slope) / 2, rel=1e-10)


def test_rrelu_averages_over_its_slopes_in_training_and_fixes_them_in_evaluation():
    low, high = 1 / 8, 1 / 3
    mean_square = (low**2 + low * high + high**2) / 3
    assert activation("rrelu").second_moment == pytest.approx((1 + mean_square) / 2, rel=1e-12)
    assert activation(nn.RReLU()).second_moment == pytest.approx((1 + mean_square) / 2, rel=1e-12)
    assert activation(nn.RReLU().eval()).second_moment == pytest.approx((1 + ((low + high) / 2) ** 2) / 2, rel=1e-12)


MODULES = [
    nn.Identity(), nn.ReLU(), nn.LeakyReLU(0.3), nn.PReLU(init=0.1), nn.ReLU6(), nn.Threshold(0.3, -0.5), nn.Hardtanh(-2, 0.5),
    nn.Hardsigmoid(), nn.Hardshrink(0.7), nn.Softshrink(0.2), nn.Hardswish(), nn.ELU(1.7), nn.CELU(0.4), nn.SELU(), nn.Softsign(),
    nn.Sigmoid(), nn.LogSigmoid(), nn.Softplus(2.0, 5.0), nn.Tanh(), nn.Tanhshrink(), nn.GELU(), nn.GELU(approximate="tanh"),
    nn.SiLU(), nn.Mish(), nn.RReLU(0.1, 0.4).eval(),
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_value_and_derivative_are_those_of_the_module(module):
    function = unit(module).function
    at = np.setdiff1d(np.linspace(-7, 7, 401) + 1e-4, function.kinks)
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    y = module.double()(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    np.testing.assert_allclose(function.value(at), y.detach().numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(function.derivative(at), slope.numpy(), rtol=1e-7, atol=1e-9)


def test_every_activation_class_of_torch_is_known_or_refused_with_a_reason():
    whole_axis = {"Softmax", "Softmin", "Softmax2d", "LogSoftmax", "MultiheadAttention"}
    arguments = {"Threshold": (0.1, 0.2), "MultiheadAttention": (4, 2)}
    for name in torch_activations.__all__:
        module = getattr(nn, name)(*arguments.get(name, ()))
        if name in whole_axis:
            with pytest.raises(ActivationError, match="has no gain"):
                activation(module)
        else:
            assert activation(module).gain > 0
            assert unit(module).parts[0][1].derivative is not None, name  # looked up, not measured


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("LeakyReLU", "leaky_relu"), ("leaky-relu", "leaky_relu"), ("hard_silu", "hardswish"), ("swish", "silu"),
        ("Swish", "silu"), ("gelu_new", "gelu_tanh"), ("log_sigmoid", "logsigmoid"), ("soft_sign", "softsign"),
        ("hard_tanh", "hardtanh"), ("exponential", "exp"), ("identity", "linear"), ("conv_transpose2d", "linear"),
        ("relu2", "relu_squared"), ("SiLU", "silu"), ("hard_shrink", "hardshrink"), ("tanh_shrink", "tanhshrink"),
    ],
)  # fmt: skip
def test_spellings_of_torch_keras_and_jax_mean_the_same(spelling, name):
    assert activation(spelling) == activation(name)


def test_every_alias_leads_to_a_name():
    assert set(ALIASES.values()) <= set(ACTIVATIONS)


def test_settings_come_as_a_number_a_tuple_or_a_dict():
    assert activation("leaky_relu", 0.2).gain == activation("leaky_relu", (0.2,)).gain
    assert activation("leaky_relu", {"negative_slope": 0.2}).gain == activation(nn.LeakyReLU(0.2)).gain
    assert activation("gelu", "tanh").gain == activation("gelu_tanh").gain


def test_the_slopes_of_a_prelu_are_read_channel_by_channel():
    module = nn.PReLU(4)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.0, 0.5, 0.5, 1.0]))
    assert activation(module).second_moment == pytest.approx((1 + (0 + 0.25 + 0.25 + 1) / 4) / 2, rel=1e-12)
    assert activation(nn.PReLU(4, device="meta")).gain == activation("prelu", 0.25).gain


def test_a_subclass_that_computes_something_else_is_measured():
    class ReLU(nn.ReLU):
        def forward(self, x):
            return 2 * super().forward(x)

    assert activation(ReLU()).second_moment == pytest.approx(2.0, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "param", "message"),
    [
        ("gelo", None, r"no activation is called 'gelo'. Did you mean gelu"),
        ("softmax", None, r"'softmax' has no gain: it mixes elements"),
        ("relu", 0.1, r"'relu' does not take param=0.1. Expected: no param"),
        ("leaky_relu", float("nan"), r"negative_slope=nan is not a finite number"),
        ("leaky_relu", True, r"negative_slope=True"),
        ("prelu", float("nan"), r"the slope nan is not finite"),
        ("gelu", "erf", r"approximate='erf' is unknown. Choose one of none, tanh"),
        ("threshold", None, r"'threshold' does not take param=None"),
        ("hardtanh", (1.0, -1.0), r"min_val=1.0 is not below max_val=-1.0"),
        ("rrelu", (0.5, 0.1), r"lower=0.5 is above upper=0.1"),
        ("softplus", 0.0, r"beta=0"),
        ("celu", 0.0, r"alpha=0"),
        ("softshrink", -1.0, r"lambd=-1.0 is negative"),
        ("squareplus", -4.0, r"b=-4.0 is not positive"),
    ],
)  # fmt: skip
def test_bad_names_and_settings_are_named_with_a_way_out(name, param, message):
    with pytest.raises(ActivationError, match=message):
        activation(name, param)


def test_a_class_of_torch_stands_for_its_defaults_and_others_are_asked_for_an_instance():
    assert activation(nn.LeakyReLU) == activation(nn.LeakyReLU())
    with pytest.raises(ActivationError, match="'Softmax' has no gain"):
        activation(nn.Softmax)
    with pytest.raises(ActivationError, match=r"Linear is a class\. Give an instance"):
        activation(nn.Linear)


def test_a_module_takes_no_settings_beside_its_own():
    with pytest.raises(ActivationError, match=r"param=0\.1 goes with a name only"):
        activation(nn.LeakyReLU(), 0.1)
