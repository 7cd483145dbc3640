"""Laws of whole matrices: moments of each element against draws, and energy kept in both directions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import init

from stepzero.errors import LawError
from stepzero.laws import DeltaOrthogonal, Dirac, Identity, Orthogonal


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), st.floats(0.1, 4))
def test_an_orthogonal_matrix_shares_its_energy_among_its_elements(rows, columns, blocks, gain):
    law, shape = Orthogonal(gain, blocks), (rows * blocks, columns)
    second = np.broadcast_to(law.moments(shape)[1], shape)
    assert second.sum() == pytest.approx(blocks * gain**2 * min(rows, columns))


@pytest.mark.parametrize(("shape", "blocks"), [((6, 4), 1), ((4, 6), 1), ((5, 2, 3), 1), ((12, 4), 3), ((12, 8), 4)])
def test_each_block_is_orthonormal_on_its_shorter_side(shape, blocks):
    law = Orthogonal(2.0, blocks)
    drawn = law.draw(shape, seed=5, name="w", dtype="float64").reshape(blocks, *law.matrix(shape))
    for block in drawn:
        short = block if block.shape[0] <= block.shape[1] else block.T
        np.testing.assert_allclose(short @ short.T, 4 * np.eye(len(short)), atol=1e-6)


def test_orthogonal_draws_have_the_promised_second_moment():
    """Mean over 400 draws of one element's square; |z| > 5 happens to a right law in 5.7e-7 of the runs."""
    law, shape = Orthogonal(1.5), (4, 9)
    squares = np.array([law.draw(shape, seed=s, name="w", dtype="float64")[1, 2] ** 2 for s in range(400)])
    assert abs(squares.mean() - law.moments(shape)[1].item()) < 5 * squares.std() / 20


@pytest.mark.parametrize(("fan_out", "fan_in"), [(64, 16), (16, 64), (32, 32)])
def test_preserving_carries_the_second_moment_through_expanding_layers_too(fan_out, fan_in):
    law = Orthogonal.preserving((fan_out, fan_in))
    weight = law.draw((fan_out, fan_in), seed=0, name="w", dtype="float64")
    assert (weight**2).sum() / fan_out == pytest.approx(1, rel=1e-6)  # E[y²]/E[x²] = ‖W‖²/rows
    assert law.moments((fan_out, fan_in))[1].item() == pytest.approx(1 / fan_in)


def test_delta_orthogonal_is_an_isometry_whatever_the_padding():
    law = DeltaOrthogonal()
    weight = torch.from_numpy(law.draw((16, 8, 3, 3), seed=0, name="w"))
    x = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    y = torch.nn.functional.conv2d(x, weight, padding=1)
    assert y.square().sum().item() == pytest.approx(x.square().sum().item(), rel=1e-5)


def test_delta_orthogonal_knows_which_taps_are_zero():
    mean, second = DeltaOrthogonal(2.0).moments((16, 8, 3, 5))
    assert second.shape == (1, 1, 3, 5)
    assert second[0, 0, 1, 2] == 4 / 16
    assert (second != 0).sum() == 1
    assert not mean.any()
    drawn = DeltaOrthogonal(2.0).draw((16, 8, 3, 5), seed=0, name="w")
    np.testing.assert_array_equal((drawn != 0).any(axis=(0, 1)), second[0, 0] != 0)


@pytest.mark.parametrize(
    ("shape", "groups"), [((6, 4, 3), 1), ((4, 6, 3, 3), 1), ((8, 3, 4, 4), 2), ((6, 2, 3, 3, 3), 3)]
)
def test_dirac_is_torchs(shape, groups):
    expected = init.dirac_(torch.empty(shape), groups).numpy()
    mean, second = Dirac(groups).moments(shape)
    np.testing.assert_array_equal(mean, expected)
    np.testing.assert_array_equal(second, expected**2)
    np.testing.assert_array_equal(Dirac(groups).draw(shape), expected)


def test_identity_is_torchs():
    expected = init.eye_(torch.empty(3, 5)).numpy()
    np.testing.assert_array_equal(Identity().moments((3, 5))[0], expected)
    np.testing.assert_array_equal(Identity(2.0).draw((3, 5)), 2 * expected)


def test_what_depends_on_the_shape_is_not_a_number_without_it():
    for law in (Orthogonal(), DeltaOrthogonal(), Dirac(), Identity()):
        assert math.isnan(law.variance)
        assert math.isnan(law.std)
    assert (Orthogonal().mean, DeltaOrthogonal().mean) == (0.0, 0.0)
    assert math.isnan(Dirac().mean)
    assert math.isnan(Identity().mean)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Orthogonal(-1.0), r"gain=-1\.0 is negative"),
        (lambda: Orthogonal(1.0, 0), "blocks=0 is not a whole number"),
        (lambda: Orthogonal().draw((3,)), r"needs at least 2 axes \(out, in, \*kernel\), got shape \(3,\)"),
        (lambda: Orthogonal(blocks=3).draw((4, 4)), "do not fall into 3 equal blocks"),
        (lambda: Orthogonal().moments((0, 5)), "has no elements"),
        (lambda: DeltaOrthogonal().moments((8, 8, 4, 4)), "a kernel of 4×4 taps has no centre"),
        (lambda: DeltaOrthogonal().draw((4, 8, 3, 3)), "8 input channels cannot be mapped to 4 without loss"),
        (lambda: Dirac().moments((3, 3)), r"got shape \(3, 3\). For a matrix use Identity"),
        (lambda: Dirac(4).draw((6, 6, 3)), "do not fall into groups=4"),
        (lambda: Dirac(1.5), r"groups=1\.5"),
        (lambda: Identity().draw((3, 3, 3)), "For a convolution use Dirac"),
        (lambda: Identity(math.nan), "gain=nan"),
    ],
)
def test_a_shape_that_cannot_follow_a_law_is_refused(make, message):
    with pytest.raises(LawError, match=message):
        make()
