"""Functions of unknown making: measured as exactly as named ones, or refused with the reason."""

import random

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import nn
from torch.nn import functional as F

from stepzero.errors import ActivationError
from stepzero.theory import activation


class Half(nn.Module):
    def forward(self, x):
        return x.clamp(min=-0.37) / 2


PAIRS = [
    (np.tanh, ("tanh", None)),
    (torch.tanh, ("tanh", None)),
    (F.silu, ("silu", None)),
    (F.gelu, ("gelu", None)),
    (F.mish, ("mish", None)),
    (lambda x: np.maximum(x, 0), ("relu", None)),
    (lambda x: x.clamp(min=0), ("relu", None)),
    (lambda x: np.where(x > 0, x, 0.2 * x), ("leaky_relu", 0.2)),
    (lambda x: F.softplus(x, 2.0), ("softplus", 2.0)),
    (lambda x: F.hardshrink(x, 0.37), ("hardshrink", 0.37)),
    (lambda x: np.clip(x, -0.713, 1.234), ("hardtanh", (-0.713, 1.234))),
    (lambda x: F.elu(x, 1.3), ("elu", 1.3)),
    (nn.Sequential(nn.Identity(), nn.Hardswish()), ("hardswish", None)),
]


@pytest.mark.parametrize(("function", "named"), PAIRS)
def test_a_function_is_measured_as_exactly_as_the_name_for_it(function, named):
    found, known = activation(function), activation(*named)
    assert found.mean == pytest.approx(known.mean, abs=1e-10)
    assert found.second_moment == pytest.approx(known.second_moment, rel=1e-10)
    assert found.gradient_second_moment == pytest.approx(known.gradient_second_moment, rel=1e-10)
    assert found.stability.slope == pytest.approx(known.stability.slope, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.floats(-3, 3), st.floats(-2, 2))
def test_a_kink_is_found_wherever_it_is(at, below):
    function = activation(lambda x: np.where(x > at, x - at, below * (x - at)))
    upper = (1 + at**2) * norm.sf(at) - at * norm.pdf(at)
    lower = (1 + at**2) * norm.cdf(at) + at * norm.pdf(at)
    assert function.second_moment == pytest.approx(upper + below**2 * lower, rel=1e-10)
    assert function.gradient_second_moment == pytest.approx(norm.sf(at) + below**2 * norm.cdf(at), rel=1e-9, abs=1e-11)


def test_a_sharp_but_smooth_bend_is_resolved():
    exact = activation(lambda x: np.tanh(100 * x)).second_moment
    with mpmath.workdps(20):
        known = mpmath.quad(
            lambda z: mpmath.tanh(100 * z) ** 2 * mpmath.npdf(z), [-14, -1, -0.1, -0.01, 0, 0.01, 0.1, 1, 14]
        )
    assert exact == pytest.approx(float(known), rel=1e-10)


def test_single_precision_functions_are_measured_to_single_precision():
    def float32_relu(x):
        return np.maximum(x, 0).astype(np.float32)

    assert activation(float32_relu).gain == pytest.approx(2**0.5, rel=1e-6)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (np.sqrt, "sqrt is not finite: it gives nan at x = -14"),
        (np.cumsum, "cumsum is not elementwise: an output changes when other elements do"),
        (np.sort, "not elementwise"),
        (lambda x: x / np.linalg.norm(x), "not elementwise"),
        (np.sum, r"sum is not elementwise: \(257,\) went in, \(\) came out"),
        (lambda x: np.exp(x * x), "grows too fast"),
        (lambda x: np.exp(1j * x), "returns complex128, not real numbers"),
        (lambda x: x * np.random.rand(*x.shape), "is random"),  # noqa: NPY002  what users write
        (lambda x: F.dropout(x), "is random"),
        (nn.Softmax(dim=0), "it mixes elements"),
        (nn.Dropout(), "it is random"),
        (nn.LayerNorm(257), "cannot be evaluated|not elementwise"),
        (nn.Linear(3, 3), "Linear cannot be evaluated on an array"),
        (3.0, "no activation. Give a name"),
        (lambda x, y: x, "cannot be evaluated on an array"),
        (lambda x: np.sin(2000 * x), "too many places"),
    ],
)
def test_what_cannot_be_integrated_is_refused_with_the_reason(function, reason):
    with pytest.raises(ActivationError, match=reason):
        activation(function)


def test_a_refused_function_leaves_every_random_state_as_it_was():
    states = lambda: (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: E731, NPY002

    def disturbing(x):
        random.random()
        torch.rand(1)
        return x * np.random.rand(x.size)  # noqa: NPY002

    before = states()
    with pytest.raises(ActivationError, match="is random"):
        activation(disturbing)
    assert states() == before


def test_an_inplace_module_and_its_buffers_are_left_alone():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return x.relu_()

    module = Counting()
    assert activation(module).gain == pytest.approx(2**0.5, rel=1e-12)
    assert module.calls == 0


def test_a_module_of_ones_own_is_measured():
    assert activation(Half()).gain > 0
