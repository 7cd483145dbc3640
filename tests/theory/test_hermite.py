"""Hermite expansions, maxima of correlated Gaussians, panels and softmax rows against direct integration and sampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepzero.theory._extremes import expand_maximum, mean_inverse, overlap
from stepzero.theory._hermite import PiecewiseLinear, expand, pair
from stepzero.theory._panels import panels

RELU = PiecewiseLinear(0.0, 0.0, (0.0,), (1.0,))
finite = st.floats(-2.0, 2.0)


def relu(x):
    return np.maximum(x, 0.0), (x > 0).astype(float)


def softly(x):
    return np.tanh(x), 1.0 / np.cosh(x) ** 2


@given(mean=finite, sd=st.floats(0.1, 3.0))
def test_closed_forms_agree_with_quadrature(mean, sd):
    m, s = np.array([mean]), np.array([sd])
    exact, numeric = RELU.expand(m, s), expand(relu, (0.0,), m, s)
    np.testing.assert_allclose(
        exact.coefficients, numeric.coefficients, atol=1e-7
    )  # h_24 at 9 sd, where quadrature ends
    np.testing.assert_allclose([exact.second, exact.slope_second], [numeric.second, numeric.slope_second], atol=1e-10)


@given(mean=finite, sd=st.floats(0.1, 3.0), skewness=st.floats(-1.0, 1.0))
def test_closed_forms_agree_with_quadrature_for_skewed_arguments(mean, sd, skewness):
    m, s = np.array([mean]), np.array([sd])
    exact, numeric = RELU.expand(m, s, skewness), expand(relu, (0.0,), m, s, skewness)
    np.testing.assert_allclose(exact.coefficients[:, :8], numeric.coefficients[:, :8], atol=1e-9)
    np.testing.assert_allclose(exact.second, numeric.second, atol=1e-9)
    np.testing.assert_allclose(exact.slope_second, numeric.slope_second, atol=1e-9)
    np.testing.assert_allclose(exact.slopes(s)[:, :2], numeric.slope_coefficients[:, :2], atol=1e-8)


def test_a_skewed_argument_brings_its_own_third_moment():
    def cube(x):
        return x**3, 3 * x**2

    e = expand(cube, (), np.array([0.0]), np.array([2.0]), 0.7)
    assert e.mean[0] == pytest.approx(0.7 * 2.0**3)


@given(mean=finite, sd=st.floats(0.1, 3.0), kurtosis=st.floats(-1.0, 4.0))
def test_closed_forms_agree_with_quadrature_for_heavy_tails(mean, sd, kurtosis):
    m, s = np.array([mean]), np.array([sd])
    exact, numeric = RELU.expand(m, s, 0.3, kurtosis), expand(relu, (0.0,), m, s, 0.3, kurtosis)
    np.testing.assert_allclose(exact.coefficients[:, :8], numeric.coefficients[:, :8], atol=1e-9)
    np.testing.assert_allclose(exact.second, numeric.second, atol=1e-9)
    np.testing.assert_allclose(exact.slope_second, numeric.slope_second, atol=1e-9)


def test_heavy_tails_bring_their_own_fourth_moment():
    def fourth(x):
        return x**4, 4 * x**3

    e = expand(fourth, (), np.array([0.0]), np.array([2.0]), 0.0, 1.5)
    assert e.mean[0] == pytest.approx((3 + 1.5) * 2.0**4)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8])
def test_pairs_of_relu_follow_the_arc_cosine_kernel(rho):
    e = RELU.expand(np.zeros(1), np.ones(1))
    expected = (np.sqrt(1 - rho**2) + rho * (np.pi - np.arccos(rho))) / (2 * np.pi)  # Cho & Saul 2009
    assert pair(e.coefficients, e.coefficients, np.array([rho]))[0] == pytest.approx(expected, abs=2e-6)
    slopes = e.slopes(np.ones(1))
    assert pair(slopes, slopes, np.array([rho]))[0] == pytest.approx((np.pi - np.arccos(rho)) / (2 * np.pi), abs=2e-4)


def test_an_element_with_itself_is_exact():
    e = expand(softly, (), np.array([0.3]), np.array([1.2]))
    assert pair(e.coefficients, e.coefficients, np.ones(1))[0] == pytest.approx(e.second[0], abs=1e-12)
    d = e.slopes(np.array([1.2]))
    assert pair(d, d, np.ones(1))[0] == pytest.approx(e.slope_second[0], abs=1e-12)


def test_slopes_of_a_function_with_jumps_are_those_of_its_pieces():
    def hard(x):
        return np.where(np.abs(x) > 0.5, x, 0.0), (np.abs(x) > 0.5).astype(float)

    e = expand(hard, (-0.5, 0.5), np.zeros(1), np.ones(1))
    assert e.slopes(np.ones(1))[0, 0] == pytest.approx(0.61707508, abs=1e-8)  # P(|z| > ½), no delta at the jump


@given(scale=finite.filter(lambda s: abs(s) > 0.01), shift=finite, x=finite)
def test_piecewise_linear_functions_compose_with_affine_ones(scale, shift, x):
    f = PiecewiseLinear(0.3, -0.2, (-1.0, 0.5), (1.0, -0.7))
    np.testing.assert_allclose(f.of_affine(scale, shift)(np.array([x])), f(np.array([scale * x + shift])), atol=1e-9)


def test_a_constant_is_a_function_of_an_affine_map_without_slope():
    assert RELU.of_affine(0.0, 2.0)(np.array([-5.0, 5.0])).tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("k", "mean", "second"), [(2, 0.56418958, 1.0), (4, 1.02937537, 1.55132890), (9, 1.48501316, 2.56261742)]
)
def test_the_largest_of_independent_normals(k, mean, second):
    identity = PiecewiseLinear(0.0, 1.0)
    e = expand_maximum(
        lambda x: (identity(x), np.ones_like(x)), (), np.zeros(1), np.ones(1), np.zeros(1), np.array([float(k)])
    )
    assert (e.mean[0], e.second[0]) == (pytest.approx(mean, abs=1e-7), pytest.approx(second, abs=1e-6))


@pytest.mark.parametrize(("rho", "second"), [(0.318, 1.3363), (0.6, 1.1165), (0.9, 0.7857)])
def test_the_largest_of_correlated_normals_after_relu(rho, second):
    e = expand_maximum(relu, (0.0,), np.zeros(1), np.ones(1), np.array([rho]), np.array([4.0]))
    assert e.second[0] == pytest.approx(second, abs=2e-4)


def test_the_slope_of_a_pooled_relu_is_the_chance_that_any_is_positive():
    e = expand_maximum(relu, (0.0,), np.zeros(1), np.ones(1), np.zeros(1), np.array([4.0]))
    assert e.slope_second[0] == pytest.approx(1 - 0.5**4, abs=1e-9)


@pytest.mark.parametrize(("count", "common", "rho"), [(4, 2, 0.0), (9, 3, 0.3), (9, 6, 0.1)])
def test_windows_that_overlap(count, common, rho):
    rng, draws = np.random.default_rng(4), 400_000
    z = np.sqrt(1 - rho) * rng.standard_normal((draws, 2 * count - common)) + np.sqrt(rho) * rng.standard_normal(
        (draws, 1)
    )
    left, right = (np.maximum(part.max(1), 0.0) for part in (z[:, :count], z[:, count - common :]))
    one = np.ones(1)
    e = expand_maximum(relu, (0.0,), 0 * one, one, rho * one, count * one)
    far = pair(e.coefficients, e.coefficients, one)[0]
    predicted = far + (e.second[0] - far) * overlap(relu, (0.0,), 0.0, 1.0, rho, count, common)
    assert abs((left * right).mean() - predicted) < 5 * (left * right).std() / draws**0.5 + 0.002  # quadrature


def test_unequal_variances_of_few_weights():
    assert mean_inverse(0.0, 9.0, 9.0) == pytest.approx(9 / 7)
    assert mean_inverse(0.0, 1.0, 100.0) == pytest.approx(100 / 98)
    w = np.random.default_rng(2).normal(size=(400_000, 9))
    c = np.full((9, 9), 0.3) + 0.7 * np.eye(9)
    v = np.einsum("ni,ij,nj->n", w, c, w)
    ratio = v.mean() * (1 / v).mean()
    assert mean_inverse(0.3, 9.0, 9.0) == pytest.approx(ratio, rel=0.01)


def test_panels_integrate_kinks_exactly():
    x, w = panels(np.array([[0.3], [-7.0]]), -1.0, 2.0)
    assert (w[0] * np.abs(x[0] - 0.3)).sum() == pytest.approx((1.3**2 + 1.7**2) / 2, abs=1e-12)
    assert w.sum(1) == pytest.approx([3.0, 3.0])


@pytest.mark.parametrize("n", [16, 32, 256])
def test_functions_of_positive_arguments_never_see_a_negative_one(n):
    def rsqrt(x):
        with np.errstate(invalid="ignore"):
            return x**-0.5, -0.5 * x**-1.5

    square = np.random.default_rng(1).chisquare(n, 400_000) / n
    e = expand(rsqrt, (), np.ones(1), np.full(1, (2 / n) ** 0.5))
    assert e.second[0] == pytest.approx((1 / square).mean(), rel=0.02 if n < 32 else 0.006)  # n/(n - 2) or 1 + 2/n
    assert e.mean[0] == pytest.approx((square**-0.5).mean(), rel=0.006)
    assert np.isfinite(e.slope_second).all()
