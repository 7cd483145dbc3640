"""Gauss–Legendre against NumPy's, and interpolation and derivatives of polynomials."""

import numpy as np
import pytest

from stepzero.theory._legendre import differentiation, interpolation, rule


@pytest.mark.parametrize("count", [2, 5, 16, 24, 64])
def test_points_and_weights_are_numpys(count):
    for found, known in zip(rule(count), np.polynomial.legendre.leggauss(count), strict=True):
        np.testing.assert_allclose(found, known, rtol=0, atol=1e-15 * count)


@pytest.mark.parametrize("degree", range(16))
def test_polynomials_are_interpolated_and_differentiated_exactly(degree):
    at, to = rule(16)[0], np.linspace(-1, 1, 40)
    np.testing.assert_allclose(interpolation(at, to) @ at**degree, to**degree, atol=2e-14)
    np.testing.assert_allclose(differentiation(at) @ at**degree, degree * at ** max(degree - 1, 0), atol=1e-12)
