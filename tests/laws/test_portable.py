"""exp and log by sums and products: as exact as a library's, at every size."""

import numpy as np
import pytest

from stepzero.laws import _portable

RNG = np.random.default_rng(0)
SMALL = 10 ** RNG.uniform(-20, 0, 20_000)
POINTS = {
    "exp": (RNG.uniform(-700, 700, 20_000), RNG.normal(size=20_000)),
    "expm1": (RNG.normal(size=20_000), SMALL, -SMALL),
    "log": (10 ** RNG.uniform(-300, 300, 20_000), 1 + SMALL / 10, np.array([5e-324])),
    "log1p": (RNG.uniform(-0.999, 5, 20_000), SMALL, -SMALL[SMALL < 0.9]),
}


@pytest.mark.parametrize("name", POINTS)
def test_the_last_digits_agree_with_a_library(name):
    for x in POINTS[name]:
        exact = getattr(np, name)(x)
        assert (np.abs(getattr(_portable, name)(x) - exact) <= 6 * np.spacing(np.abs(exact))).all()


@pytest.mark.filterwarnings("ignore:overflow")
def test_ends_are_those_of_ieee():
    assert _portable.exp(np.array([-1e9, 0.0, 1e9])).tolist() == [0.0, 1.0, np.inf]
    assert _portable.expm1(np.array([-1e9, 0.0])).tolist() == [-1.0, 0.0]
    found = _portable.log(np.array([0.0, 1.0, np.inf, -1.0]))
    assert found[:3].tolist() == [-np.inf, 0.0, np.inf]
    assert np.isnan(found[3])
