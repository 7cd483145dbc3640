"""Spectral norms of random matrices, after few power iterations and after many."""

import numpy as np
import pytest

from stepzero.theory._power_iteration import over_norm


def measured(images, starts, iterations, draws, rng):
    """|W|²/σ² over the number of elements, for matrices drawn whole."""
    a = rng.standard_normal((draws, images, starts))
    x = rng.standard_normal((draws, starts, 1))
    for _ in range(iterations):
        u = a @ x
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        x = a.transpose(0, 2, 1) @ u
        sigma = np.linalg.norm(x, axis=(1, 2))
        x /= sigma[:, None, None]
    return (a**2).mean(axis=(1, 2)) / sigma**2


@pytest.mark.parametrize(("images", "starts"), [(8, 8), (8, 72), (72, 8), (64, 27)])
@pytest.mark.parametrize("iterations", [1, 16])
def test_power_iteration_sees_of_a_gaussian_matrix_what_the_bidiagonal_one_has(images, starts, iterations):
    found = measured(images, starts, iterations, 400, np.random.default_rng(5))
    expected = over_norm(images, starts, iterations)
    error = found.std() * (1 / 400 + 1 / 4096) ** 0.5  # both are means over draws
    assert abs(found.mean() - expected.second) < 5 * error
    assert found.var() / found.mean() ** 2 == pytest.approx(
        expected.scatter, rel=0.5
    )  # 400 draws: 5 sigma of a variance


def test_a_row_or_a_column_is_divided_by_its_length():
    for shape in ((1, 9), (9, 1)):
        assert over_norm(*shape, 3).second == pytest.approx(1 / 9)
        assert over_norm(*shape, 3).scatter == pytest.approx(0.0, abs=1e-12)


def test_more_iterations_find_a_larger_norm():
    seconds = [over_norm(32, 32, k).second for k in (1, 2, 4, 16, 64)]
    assert seconds == sorted(seconds, reverse=True)
    assert (
        seconds[-1] > 1 / 128
    )  # (√n + √m)² std² from above: the largest singular value of a finite matrix is below it
