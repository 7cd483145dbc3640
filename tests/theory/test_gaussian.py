"""Gaussian integrals against closed forms and arbitrary-precision quadrature."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepzero.errors import ActivationError
from stepzero.theory import expect, expect_pair, moments, nodes


def relu(x):
    return np.maximum(x, 0)


def step(at):
    return lambda x: (x > at).astype(float)


@given(st.floats(-3, 3), st.floats(0.01, 100))
def test_polynomials_are_integrated_exactly(mean, variance):
    fourth = mean**4 + 6 * mean**2 * variance + 3 * variance**2
    assert float(expect(lambda x: x**4, mean, variance)) == pytest.approx(fourth, rel=1e-12)


@given(st.floats(-3, 3), st.floats(0.01, 100), st.floats(-2, 2))
def test_a_step_integrates_to_the_tail_wherever_it_stands(mean, variance, at):
    tail = math.erfc((at - mean) / math.sqrt(2 * variance)) / 2
    assert float(expect(step(at), mean, variance, (at,))) == pytest.approx(tail, abs=1e-13)


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e6), st.lists(st.floats(-50, 50), max_size=4))
def test_weights_add_up_to_one_and_no_node_stands_on_a_kink(mean, variance, kinks):
    x, weight = nodes(mean, variance, kinks)
    assert weight.sum() == pytest.approx(1, abs=1e-13)
    inside = [kink for kink in kinks if abs(kink - mean) < 13.9 * variance**0.5]
    assert not np.isin(x[weight > 0], inside).any()


@pytest.mark.parametrize("variance", [1e-4, 1.0, 1e4, 1e6])
def test_a_bend_far_narrower_than_the_gaussian_is_resolved(variance):
    with mpmath.workdps(20):
        sd = mpmath.sqrt(variance)
        cuts = sorted({0, *(sign * c / sd for c in (1, 4, 16) for sign in (-1, 1)), -14, 14})
        cuts = [c for c in cuts if abs(c) <= 14]
        exact = mpmath.quad(lambda z: mpmath.tanh(sd * z) ** 2 * mpmath.npdf(z), cuts)
    assert float(expect(lambda x: np.tanh(x) ** 2, 0.0, variance)) == pytest.approx(float(exact), rel=1e-10)


def test_mean_and_variance_broadcast():
    mean, second = moments(relu, variance=np.ones((3, 1)), mean=np.zeros(2), kinks=(0.0,))
    np.testing.assert_allclose(mean, np.full((3, 2), 1 / math.sqrt(2 * math.pi)), rtol=1e-14)
    np.testing.assert_allclose(second, 0.5, rtol=1e-14)


def test_no_variance_is_the_function_at_the_mean():
    assert float(expect(np.exp, 0.7, 0.0)) == pytest.approx(math.exp(0.7), rel=1e-14)


@given(st.floats(-1, 1))
def test_relu_pairs_follow_the_arc_cosine_kernel(c):
    kernel = (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / (2 * math.pi)
    assert expect_pair(relu, c, kinks=(0.0,)) == pytest.approx(kernel, abs=2e-12)


@given(st.floats(-1, 1))
def test_step_pairs_follow_the_orthant_probability(c):
    orthant = 0.25 + math.asin(c) / (2 * math.pi)  # Sheppard 1899
    assert expect_pair(step(0.0), c, kinks=(0.0,)) == pytest.approx(orthant, abs=1e-10)


@given(st.floats(-1, 1), st.floats(-2, 2), st.floats(0.01, 4))
def test_exponential_pairs_follow_the_log_normal(c, mean, variance):
    exact = math.exp(2 * mean + variance * (1 + c))
    assert expect_pair(np.exp, c, mean, variance) == pytest.approx(exact, rel=1e-11)


@given(st.floats(0, 1))
def test_a_correlation_of_one_is_the_second_moment(variance):
    assert expect_pair(np.tanh, 1.0, 0.3, variance) == pytest.approx(
        float(moments(np.tanh, variance, 0.3)[1]), rel=1e-12
    )


def test_bad_settings_are_named():
    with pytest.raises(ActivationError, match=r"correlation=1\.5"):
        expect_pair(relu, 1.5)
    with pytest.raises(ActivationError, match="variance"):
        expect(relu, 0.0, -1.0)
    with pytest.raises(ActivationError, match="variance"):
        expect(relu, 0.0, math.nan)
    with pytest.raises(ActivationError, match="mean"):
        expect(relu, math.inf, 1.0)
