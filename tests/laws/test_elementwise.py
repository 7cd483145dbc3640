"""Laws of independent elements: what they promise, what their draws have, and what cannot be."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stepzero.errors import LawError
from stepzero.laws import Constant, Kept, Normal, Sparse, TruncatedNormal, Uniform

STDS = st.floats(1e-6, 1e3)


@given(STDS, st.floats(-10, 10))
def test_a_normal_is_its_mean_and_variance(std, mean):
    law = Normal(std, mean)
    assert (law.mean, law.variance, law.std) == (mean, std**2, std)


@given(st.floats(-100, 100), st.floats(1e-6, 100))
def test_a_uniform_has_a_twelfth_of_its_width_squared(low, width):
    law = Uniform(low, low + width)
    assert law.variance == pytest.approx(stats.uniform(low, law.high - low).var(), rel=1e-12)
    assert law.mean == pytest.approx(low + width / 2, rel=1e-9, abs=1e-12)


@given(STDS, st.floats(-4, 3), st.floats(0.01, 4))
def test_the_std_of_a_truncated_normal_is_the_realised_one(std, low, width):
    law = TruncatedNormal(std, low, low + width)
    parent = stats.truncnorm(law.low, law.high, scale=law.parent_std)
    assert law.std == std
    assert parent.std() == pytest.approx(std, rel=1e-6)  # scipy's own variance loses digits on narrow intervals
    assert law.mean == pytest.approx(parent.mean(), rel=1e-9, abs=1e-12 * std)


def test_cutting_at_two_sigma_leaves_the_known_share_of_the_std():
    assert 1 / TruncatedNormal(1.0).parent_std == pytest.approx(0.8796256610342398, rel=1e-13)
    assert 1 / TruncatedNormal(1.0, -1, 1).parent_std == pytest.approx(0.5395599, abs=1e-6)
    assert 1 / TruncatedNormal(1.0, -3, 3).parent_std == pytest.approx(0.9865784, abs=1e-6)


def test_constants_and_kept_parameters():
    assert (Constant(3.0).mean, Constant(3.0).variance) == (3.0, 0.0)
    assert math.isnan(Kept().mean)
    assert math.isnan(Kept().std)
    with pytest.raises(LawError, match=r"head\.bias keeps the value it has"):
        Kept().draw((3,), name="head.bias")


DRAWN = [
    Normal(0.3), Normal(0.3, 1.0), Uniform(-0.5, 0.5), Uniform(0.0, 2.0), TruncatedNormal(0.02), TruncatedNormal(1.0, -1.0, 3.0),
    TruncatedNormal(1.0, -1.0, 1.0), Sparse(0.9, 0.1), Sparse(0.25, 1.0),
]  # fmt: skip


@pytest.mark.parametrize("law", DRAWN, ids=repr)
def test_draws_have_the_promised_moments(law):
    """|z| > 5 of mean and second moment happens to a right law in 5.7e-7 of the runs; the seed is fixed."""
    values = law.draw((400, 500), seed=3, name="w", dtype="float64")
    mean, second = (np.broadcast_to(moment, values.shape).mean() for moment in law.moments(values.shape))
    for sample, promised in ((values, mean), (values**2, second)):
        error = sample.std() / math.sqrt(values.size)
        assert abs(sample.mean() - promised) < 5 * error


@pytest.mark.parametrize("law", [Normal(0.3), Uniform(-0.5, 0.5), TruncatedNormal(0.3)], ids=repr)
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_a_complex_draw_has_the_variance_that_was_asked_not_twice_that(law, dtype):
    values = np.abs(law.draw((300, 300), seed=1, name="w", dtype=dtype)) ** 2
    assert abs(values.mean() - law.variance) < 5 * values.std() / 300


@pytest.mark.parametrize("law", [Normal(0.3), Uniform(-0.5, 0.5), TruncatedNormal(0.3)], ids=repr)
def test_low_precision_draws_are_the_rounded_ones(law):
    full = law.draw((64, 64), seed=1, name="w")
    np.testing.assert_array_equal(law.draw((64, 64), seed=1, name="w", dtype="float16"), full.astype(np.float16))


def test_sparse_zeros_the_same_number_in_every_column():
    law = Sparse(0.3)
    values = law.draw((10, 40), seed=0, name="w")
    assert law.zeros((10, 40)) == 3
    assert ((values == 0).sum(axis=0) == 3).all()


def test_laws_print_short():
    assert repr(Normal(0.0481125)) == "Normal(std=0.0481125)"
    assert repr(Normal(1.0, 2.0)) == "Normal(std=1, mean=2)"
    assert repr(TruncatedNormal(0.02)) == "TruncatedNormal(std=0.02)"
    assert repr(TruncatedNormal(0.02, -1, 3)) == "TruncatedNormal(std=0.02, low=-1, high=3)"
    assert repr(Uniform(-1, 1)) == "Uniform(low=-1, high=1)"
    assert repr(Constant(0)) == "Constant(0)"
    assert repr(Sparse(0.5)) == "Sparse(sparsity=0.5, std=0.01)"


def test_numpy_numbers_make_the_same_law():
    assert Normal(np.float32(0.5)) == Normal(0.5)
    assert hash(Normal(np.float64(0.5))) == hash(Normal(0.5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(-1.0), r"Normal: std=-1\.0 is negative"),
        (lambda: Normal(math.nan), "Normal: std=nan is not a finite number"),
        (lambda: Normal(True), "std=True"),
        (lambda: Normal("wide"), "std='wide'"),
        (lambda: Normal(1.0, math.inf), "mean=inf"),
        (lambda: Uniform(1.0, -1.0), r"low=1\.0 is above high=-1\.0. Swap them"),
        (lambda: TruncatedNormal(1.0, 2.0, -2.0), r"no mass between low=2\.0 and high=-2\.0"),
        (lambda: TruncatedNormal(1.0, 0.0, 0.0), "no mass"),
        (lambda: TruncatedNormal(1.0, 40.0, 41.0), "mass between 40 and 41 standard deviations"),
        (lambda: TruncatedNormal(1.0, -9.0, -7.0), "Move the cuts towards 0"),
        (lambda: Constant(math.inf), "value=inf"),
        (lambda: Sparse(1.5), r"sparsity=1\.5 is not a share"),
        (lambda: Sparse(0.5).moments((3, 3, 3)), r"got shape \(3, 3, 3\)"),
        (lambda: Sparse(0.5).draw((3,)), "per column of a matrix"),
    ],
)
def test_laws_that_cannot_be_are_refused_when_they_are_made(make, message):
    with pytest.raises(LawError, match=message):
        make()
