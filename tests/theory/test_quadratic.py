"""The inverse of a variance of few modes, and what each kind of mode keeps of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepzero.theory._quadratic import inverse_and_shares


@given(st.integers(3, 400), st.floats(1e-6, 1e6))
def test_equal_modes_have_the_inverse_of_chi_squared(count, value):
    inverse, shares = inverse_and_shares(np.array([[value]]), np.array([[float(count)]]))
    assert inverse == pytest.approx(count / (count - 2), rel=1e-8)
    assert shares.tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("values", "counts"), [((5.3, 0.335, 0.4), (3, 7, 21)), ((10.0, 0.1), (1, 30)), ((1.0, 0.5), (200, 300))]
)
def test_strong_modes_keep_less_than_their_share(values, counts):
    """Monte Carlo of a million variances; E[1/v] has a finite variance for more than four modes."""
    random = np.random.default_rng(1)
    parts = np.stack([v * random.chisquare(n, 1_000_000) for v, n in zip(values, counts, strict=True)])
    v = parts.sum(0)
    inverse, shares = inverse_and_shares(np.array([values]), np.array([counts], dtype=float))
    assert inverse == pytest.approx((1 / v).mean() * v.mean(), rel=2e-3)
    assert shares[0] == pytest.approx((parts / v).mean(1), abs=1e-3)
    expected = np.array(values) * np.array(counts) / np.dot(values, counts)
    assert shares[0, 0] < expected[0]


def test_two_modes_have_no_mean_inverse():
    inverse, shares = inverse_and_shares(np.array([[1.0, 3.0], [0.0, 0.0]]), np.array([[1.0, 1.0], [5.0, 5.0]]))
    assert inverse.tolist() == [float("inf"), 1.0]  # nothing at all has no scatter
    assert shares.tolist() == [[0.25, 0.75], [0.0, 0.0]]
