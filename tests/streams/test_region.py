import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepzero.errors import LawError
from stepzero.streams import Region

shapes = st.lists(st.integers(0, 6), max_size=4).map(tuple)
cuts = st.builds(
    slice,
    st.none() | st.integers(-7, 7),
    st.none() | st.integers(-7, 7),
    st.sampled_from([None, 1, 2, 3, -1, -2]),
)


@st.composite
def selections(draw):
    shape = draw(shapes)
    return shape, tuple(draw(cuts) for _ in shape)


def elements(region):
    """Return the global indices that the runs of a region spell out."""
    starts, width = region.runs()
    return (starts[:, None] + np.arange(width, dtype=np.uint64)).reshape(region.shape)


@given(selections())
def test_runs_spell_out_what_numpy_slicing_takes(selection):
    shape, cut = selection
    every = np.arange(math.prod(shape), dtype=np.uint64).reshape(shape)
    np.testing.assert_array_equal(elements(Region(shape)[cut]), every[cut])


@given(selections(), selections())
def test_slicing_twice_is_slicing_what_was_sliced(first, second):
    shape, cut = first
    again = second[1][: len(shape)]
    every = np.arange(math.prod(shape), dtype=np.uint64).reshape(shape)
    np.testing.assert_array_equal(elements(Region(shape)[cut][again]), every[cut][again])


@given(selections(), st.integers(1, 40))
def test_pieces_cut_a_region_into_disjoint_parts_within_the_limit(selection, limit):
    shape, cut = selection
    region = Region(shape)[cut]
    seen = np.zeros(region.shape, int)
    for piece in region.pieces(limit):
        assert region[piece].size <= limit
        seen[piece] += 1
    assert (seen == 1).all()


def test_an_ellipsis_stands_for_the_axes_between():
    assert Region((2, 3, 4))[0:1, ..., ::2].axes == (range(1), range(3), range(0, 4, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Region((4,), (range(5),)), "leaves axis 0"),
        (lambda: Region((4,), (range(-1, 2),)), "leaves axis 0"),
        (lambda: Region((4, 4), (range(4),)), "1 ranges for the 2 axes"),
        (lambda: Region((2**32, 2**32)), r"fewer than 2\^64"),
        (lambda: Region((-1,)), r"fewer than 2\^64"),
        (lambda: Region((4,))[0], "Write 3:4 for 3"),
        (lambda: Region((4,))[:, :], "2 slices for the 1 axes"),
    ],
)
def test_impossible_regions_are_refused(make, message):
    with pytest.raises(LawError, match=message):
        make()


def test_elements_beyond_two_to_the_32_keep_their_index():
    shard = Region((2**20, 2**20))[2**19 + 3 : 2**19 + 5, 7:9]
    assert elements(shard).tolist() == [[(2**19 + 3 + i) * 2**20 + 7 + j for j in range(2)] for i in range(2)]
