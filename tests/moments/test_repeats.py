"""Places with the same moments, computed once."""

import numpy as np
import torch

from stepzero.moments._repeats import FEW_PLACES, Repeats
from stepzero.moments._signal import Moments


def a_map(size: int) -> torch.Tensor:
    """A map that only its borders change, as padded convolutions leave it."""
    side = torch.ones(size, dtype=torch.float64)
    side[0], side[-2:] = 0.5, 0.25
    return (side[:, None] * side).reshape(1, 1, size, size)


def moments_of(t: torch.Tensor) -> Moments:
    return Moments(0.0 * t[..., :1, :1], t, t / 2, t / 2, t, t / 4)


def test_one_row_and_one_column_stand_for_those_like_them():
    m = moments_of(a_map(12))
    repeats, few = Repeats.of(m, 4)
    assert few.second.shape == (1, 1, 3, 3)
    assert few.mean.shape == (1, 1, 1, 1)
    assert few.across is few.second
    assert all(torch.equal(repeats.spread(t), whole) for t, whole in zip(few, m, strict=True))


def test_averages_count_every_place():
    m = moments_of(a_map(12))
    repeats, few = Repeats.of(m, 4)
    for axes in ((2, 3), (2,), (3,), ()):
        expected = m.second.numpy().mean(axis=axes, keepdims=True) if axes else m.second.numpy()
        found = repeats.average(few.second.numpy(), axes)
        whole = repeats.spread(torch.from_numpy(found)).numpy()
        assert np.allclose(np.broadcast_to(whole, expected.shape), expected, rtol=1e-14)


def test_a_slice_that_differs_in_one_moment_stands_for_itself():
    m = moments_of(a_map(12))
    apart = m.apart.clone()
    apart[0, 0, 5, 7] += 1e-9
    repeats, few = Repeats.of(m._replace(apart=apart), 4)
    assert few.second.shape == (1, 1, 5, 5)
    assert torch.equal(repeats.spread(few.apart), apart)


def test_maps_that_differ_everywhere_or_are_small_stay_as_they_are():
    t = torch.rand(1, 1, 9, FEW_PLACES - 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    m = Moments(t, t, t, t, t, t)
    repeats, few = Repeats.of(m, 4)
    assert repeats.runs == ()
    assert few.second is t
