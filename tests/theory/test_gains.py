"""Gains: published values, identities, depth, and measured wide layers."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepzero.errors import ActivationError
from stepzero.theory import ACTIVATIONS, activation, expect, gain, unit

# 1/√E[φ²] and 1/√E[φ'²] to eight digits.
GAINS = {
    "linear": (1.0, 1.0), "relu": (1.41421356, 1.41421356), "relu6": (1.41421357, 1.41421356),
    "relu_squared": (0.81649658, 0.70710678), "elu": (1.24519830, 1.22342856), "selu": (1.0, 0.96602578),
    "gelu": (1.53353044, 1.48111441), "gelu_tanh": (1.53358052, 1.48116806), "quick_gelu": (1.53945876, 1.49145923),
    "silu": (1.67653247, 1.62332026), "mish": (1.48684758, 1.44475523), "softplus": (1.04186684, 1.84622855),
    "hardswish": (1.73665721, 1.67007637), "hardsigmoid": (1.89784042, 6.00811583), "hardtanh": (1.39203614, 1.21028706),
    "tanh": (1.59253742, 1.46741359), "sigmoid": (1.84622855, 4.72264609), "softsign": (2.33753336, 2.09578061),
    "logsigmoid": (1.04186684, 1.84622855), "sin": (1.52086662, 1.32725060), "gaussian": (1.49534878, 1.67185076),
    "tanhshrink": (2.33836753, 1.98813882), "softshrink": (1.54436053, 1.27300760), "hardshrink": (1.01579635, 1.27300760),
    "abs": (1.0, 1.0), "glu": (1.84622855, 2.43174699), "swiglu": (1.67653247, 1.64928290),
    "geglu": (1.53353044, 1.50663902), "geglu_tanh": (1.53358052, 1.50669100), "reglu": (1.41421356, 1.41421356),
    "bilinear": (1.0, 1.0),
}  # fmt: skip
SLOPES = {  # derivative of the length map at q = 1
    "relu": 1.0, "tanh": 0.461071, "sigmoid": 0.106341, "selu": 0.782648, "elu": 0.890968, "gelu": 1.144063, "silu": 1.172594,
    "mish": 1.076339, "hardswish": 1.223920, "softplus": 0.492053, "swiglu": 2.172594, "gaussian": -0.4, "relu_squared": 2.0,
}  # fmt: skip
EVERY = [name for name in ACTIVATIONS if name != "threshold"]


@pytest.mark.parametrize("name", GAINS)
def test_gains_agree_with_the_published_table_to_eight_digits(name):
    found = activation(name)
    assert (found.gain, found.gradient_gain) == pytest.approx(GAINS[name], abs=6e-9)


@pytest.mark.parametrize("name", SLOPES)
def test_the_slope_of_the_length_map_agrees_with_the_published_table(name):
    assert activation(name).stability.slope == pytest.approx(SLOPES[name], abs=6e-7)


@given(st.floats(-3, 3))
def test_leaky_relu_has_kaimings_closed_form(a):
    assert gain("leaky_relu", a) == pytest.approx(math.sqrt(2 / (1 + a * a)), rel=1e-12)
    assert activation("leaky_relu", a).gradient_gain == pytest.approx(math.sqrt(2 / (1 + a * a)), rel=1e-12)


SHARP = [
    ("softplus", 500.0, lambda x: mp.log1p(mp.exp(500 * x)) / 500 if x < 0.08 else x),
    ("silu", 300.0, lambda x: x / (1 + mp.exp(-300 * x))),
    ("celu", 0.003, lambda x: x if x > 0 else 0.003 * mp.expm1(x / 0.003)),
    ("squareplus", 1e-5, lambda x: (x + mp.sqrt(x**2 + 1e-5)) / 2),
    ("elu", 7.0, lambda x: x if x > 0 else 7 * mp.expm1(x)),
]


@pytest.mark.parametrize(("name", "param", "phi"), SHARP)
def test_sharp_settings_are_resolved(name, param, phi):
    near = [0.003 * 4**k for k in range(6)]
    with mp.workdps(18):
        exact = mp.quad(lambda z: phi(z) ** 2 * mp.npdf(z), [-14, *(-x for x in near[::-1]), 0, *near, 14])
    assert activation(name, param).second_moment == pytest.approx(float(exact), rel=1e-10)


@pytest.mark.parametrize("frequency", [0.5, 1, 3, 30, 300])
def test_a_sine_of_any_frequency_has_its_closed_form(frequency):
    found, decay = activation("sin", frequency), math.exp(-2 * frequency**2)
    assert found.second_moment == pytest.approx((1 - decay) / 2, rel=1e-11)
    assert found.gradient_second_moment == pytest.approx(frequency**2 * (1 + decay) / 2, rel=1e-11)


@pytest.mark.parametrize("name", EVERY)
def test_the_slope_is_the_change_of_the_length_map(name):
    found = activation(name)

    def length(q):  # of a product, the other half brings a factor q
        return sum(share * second(part, q) for share, part in found.unit.parts) * (q if found.unit.gated else 1)

    h = 1e-3
    slope = (length(1 + h) - length(1 - h)) / (2 * h) / found.second_moment
    assert found.stability.slope == pytest.approx(slope, abs=2e-5)


def second(function, q):
    return float(expect(lambda x: function.value(x) ** 2, 0.0, q, function.kinks))


@pytest.mark.parametrize("name", [name for name in EVERY if unit(name).function and not unit(name).function.jumps])
def test_stein_ties_the_slope_to_the_derivative(name):
    function = unit(name).function
    joint = float(expect(lambda z: function.value(z) * function.derivative(z) * z, kinks=function.kinks))
    assert activation(name).stability.slope == pytest.approx(joint / activation(name).second_moment, abs=1e-10)


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("gelu", "unstable", "grows to a factor 2 within 32 layers"),
        ("silu", "unstable", "grows to a factor 2"),
        ("mish", "unstable", "grows to a factor 2"),
        ("tanh", "stable", "forward and backward cannot both be held"),
        ("sigmoid", "stable", "forward and backward cannot both be held"),
        ("relu", "marginal", "gradients are held as well"),
    ],
)
def test_the_verdict_says_what_follows_for_depth(name, verdict, words):
    stability = activation(name).stability
    assert stability.verdict == verdict
    assert words in stability.consequence


def test_the_named_number_of_layers_doubles_the_error():
    slope, layers = activation("gelu").stability.slope, 32
    assert 0.01 * slope ** (layers - 1) < math.log(2) <= 0.01 * slope**layers


@pytest.mark.parametrize("name", EVERY)
def test_an_activation_prints_and_turns_into_plain_data(name):
    found = activation(name)
    assert found.name in repr(found)
    assert found.to_dict()["gain"] == found.gain
    assert float(found.stability) == found.stability.slope


def test_gains_that_subtract_the_mean_are_named_apart():
    assert activation("relu").variance_gain == pytest.approx(math.sqrt(2 / (1 - 1 / math.pi)), rel=1e-12)  # NFNet's γ
    assert activation("relu").noise == pytest.approx(5, rel=1e-12)
    assert activation("relu").correlation_floor == pytest.approx(1 / math.pi, rel=1e-12)


@pytest.mark.parametrize("level", [0.3, 1e-6, 7e5])
def test_a_constant_of_any_size_has_no_variance_gain(level):
    assert activation(lambda x: np.full_like(x, level)).variance_gain == math.inf


def test_a_constant_has_a_gain_but_passes_no_gradient():
    found = activation(lambda x: np.full_like(x, 2.0))
    assert found.gain == pytest.approx(0.5, rel=1e-15)
    assert (found.gradient_gain, found.variance_gain, found.chi) == (math.inf, math.inf, 0.0)
    assert found.to_dict()["gradient_gain"] is None


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh", "selu", "swiglu"])
def test_a_wide_layer_with_this_gain_holds_the_second_moment(name):
    """Mean of 4096 independent units: 5σ of the estimator, so a right gain fails once in 1.7 million."""
    found, rng, width = activation(name), np.random.default_rng(7), 512
    x = rng.standard_normal((4096, width)) * found.unit.parts[0][1].value(rng.standard_normal((4096, width)))
    if not found.unit.gated:
        x = found.unit.parts[0][1].value(rng.standard_normal((4096, width)))
    y = np.sum(x * rng.standard_normal((4096, width)), axis=1) * found.gain / math.sqrt(width)
    error = np.std(y**2) / math.sqrt(y.size)
    assert abs(np.mean(y**2) - 1) < 5 * error


def test_what_is_zero_has_no_gain():
    with pytest.raises(ActivationError, match="zero almost everywhere"):
        gain(np.zeros_like)
