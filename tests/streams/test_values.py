import numpy as np
from scipy.special import ndtri

from stepzero.streams import _values


def test_the_normal_is_the_quantile_function_to_three_in_ten_million():
    rng = np.random.default_rng(0)
    level = np.concatenate([rng.integers(0, 2**32, 200_000), np.arange(1000), 2**32 - 1 - np.arange(1000)]).astype(
        np.uint32
    )
    value = _values.normal(level, np.float32(2.0**-26))
    below = level < 2**31
    mirrored = np.where(below, level, ~level) | np.uint32(1)
    exact = ndtri(mirrored.astype(np.float32).astype(np.float64) / 2**32)
    assert np.abs(value - np.where(below, exact, -exact)).max() < 4e-7


def test_the_normal_is_odd_and_never_decreases():
    edge = [np.arange(2**k - 50, 2**k + 50, dtype=np.int64) for k in range(8, 32)]
    level = np.unique(np.concatenate([*edge, np.arange(0, 2**32, 65_521)])).astype(np.uint32)
    value = _values.normal(level, np.float32(2.0**-26))
    assert (np.diff(value) >= 0).all()
    np.testing.assert_array_equal(_values.normal(~level, np.float32(2.0**-26)), -value)


def test_a_uniform_never_reaches_its_bounds_nor_zero():
    word = np.array([0, 2**32 - 1, 2**31, 2**31 - 1], np.uint32)
    value = _values.uniform(word, np.float32(2.0**-24))
    assert (np.abs(value) < 1).all()
    assert value.all()


def test_cut_levels_stay_between_the_cuts():
    word = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
    level = _values.levels(word, 97711073, 4197256223 - 97711073)
    assert level.min() == 97711073
    assert level.max() == 4197256222
