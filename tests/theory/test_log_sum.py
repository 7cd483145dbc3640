"""log Σ eˣ of independent Gaussians, against draws."""

import numpy as np
import pytest

from stepzero.theory._log_sum import log_sum


@pytest.mark.parametrize(("variance", "count"), [(1e-3, 5), (1.0, 24), (4.0, 8), (16.0, 8), (25.0, 100)])
def test_the_moments_are_those_of_draws(variance, count):
    z = np.random.default_rng(7).standard_normal((40_000, count)) * variance**0.5
    top = z.max(1, keepdims=True)
    e = np.exp(z - top)
    total, squares = np.log(e.sum(1)) + top[:, 0], (e**2).sum(1) / e.sum(1) ** 2
    found = log_sum(variance, count)
    for predicted, samples in (
        (found.mean, total),
        (found.variance, (total - total.mean()) ** 2),
        (found.concentration, squares),
    ):
        error = samples.std() / len(samples) ** 0.5
        assert abs(predicted - samples.mean()) < 5 * error + 2e-4 * max(
            abs(predicted), count**-1.0
        )  # 5 sigma: 1 in 1.7 million


def test_one_term_is_its_own_logarithm():
    assert log_sum(9.0, 1) == pytest.approx((0.0, 9.0, 1.0), abs=2e-3)
