import math

import numpy as np
import pytest

from stepzero import streams
from stepzero.laws import DeltaOrthogonal, Orthogonal
from stepzero.streams._engine import fold


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (33, 33), (64, 20), (20, 64), (16, 8, 3, 3), (200, 12, 3)])
def test_the_shorter_side_is_orthonormal_to_rounding(shape, engine):
    matrix = streams.draw(Orthogonal(1.0), shape, 0, "w", "float64", engine=engine).reshape(shape[0], -1)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-6)  # elements are rounded to binary32


def test_blocks_are_orthogonal_each_for_itself_and_differ(engine):
    gates = streams.draw(Orthogonal(1.0, 4), (32, 8), 0, "w", "float64", engine=engine).reshape(4, 8, 8)
    for gate in gates:
        np.testing.assert_allclose(gate @ gate.T, np.eye(8), atol=1e-6)
    assert np.abs(gates[0] - gates[1]).max() > 0.1


def test_the_centre_tap_is_an_isometry_and_the_others_are_zero():
    kernel = streams.draw(DeltaOrthogonal(2.0), (12, 8, 3, 5), 0, "w", "float64")
    np.testing.assert_allclose(kernel[:, :, 1, 2].T @ kernel[:, :, 1, 2], 4 * np.eye(8), atol=1e-5)
    kernel[:, :, 1, 2] = 0
    assert not kernel.any()


def test_signs_make_the_distribution_uniform():
    """Under the uniform law E[trace] = 0 and E[trace²] = 1; without the sign matrix D the trace of a 3×3 matrix is biased."""
    trace = np.array([np.trace(streams.draw(Orthogonal(1.0), (3, 3), seed, "w")) for seed in range(3000)])
    assert abs(trace.mean()) < 5 * math.sqrt(1 / 3000)
    assert abs((trace**2).mean() - 1) < 5 * math.sqrt(2 / 3000)  # Var[trace²] = 2 for the orthogonal group
    corner = np.array([streams.draw(Orthogonal(1.0), (3, 3), seed, "v")[0, 0] for seed in range(3000)])
    assert abs(np.mean(corner < 0.5) - 0.75) < 5 * math.sqrt(
        0.75 * 0.25 / 3000
    )  # uniform on (-1, 1): a sphere's shadow


def test_folding_adds_in_one_order_whatever_the_rows():
    terms = np.random.default_rng(0).standard_normal((50, 77))
    together, alone = fold(terms.copy()), np.array([fold(row[None].copy())[0] for row in terms])
    assert together.tobytes() == alone.tobytes()
    np.testing.assert_allclose(together, terms.sum(1), atol=1e-12)
