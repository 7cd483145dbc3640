import numpy as np
import pytest

from stepzero import streams
from stepzero.errors import LawError
from stepzero.laws import Normal
from stepzero.streams import Region

LAW = Normal(1.0)


def window(shape, strides):
    return np.lib.stride_tricks.as_strided(np.zeros(64, np.float32), shape, strides)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([0.0], "list is no NumPy array"),
        (window((4, 4), (8, 4)), "share memory"),
        (window((3, 2), (0, 4)), "share memory"),
        (window((4,), (2,)), "share memory"),
        (window((2, 2, 2), (16, -8, 8)), "share memory"),
    ],
)
def test_arrays_that_cannot_take_values_are_refused(array, message):
    with pytest.raises(LawError, match=message):
        streams.fill(array, LAW, 0, "w")


def test_a_torch_tensor_is_told_how_to_become_an_array():
    torch = pytest.importorskip("torch")
    with pytest.raises(LawError, match=r"tensor\.numpy\(\)"):
        streams.fill(torch.zeros(3), LAW, 0, "w")


@pytest.mark.parametrize(
    "view",
    [
        lambda base: base[5::-1, 7::-1],
        lambda base: base[:8, :6].T,
        lambda base: base[::4, ::4],
        lambda base: base[3:4, ::5],
        lambda base: base[:, :0],
        lambda base: base[2, 3:4],
    ],
)
def test_any_other_strides_take_the_values_of_their_place_and_nothing_beside_is_written(view):
    base = np.zeros((24, 32), np.float32)
    streams.fill(view(base), LAW, 0, "w")
    expected = streams.draw(LAW, view(base).shape, 0, "w")
    np.testing.assert_array_equal(view(base), expected)
    assert np.count_nonzero(base) == expected.size


def test_an_unaligned_field_takes_its_values():
    records = np.zeros(9, [("flag", "i1"), ("value", "f4")])
    streams.fill(records["value"], LAW, 0, "w")
    np.testing.assert_array_equal(records["value"], streams.draw(LAW, (9,), 0, "w"))
    assert not records["flag"].any()


@pytest.mark.parametrize("shape", [5, (2.0,), None, ("a",), (-1,)])
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(LawError, match=r"is no shape|is no tensor"):
        streams.draw(LAW, shape, 0, "w")


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_what_is_no_number_of_threads_is_refused(threads):
    with pytest.raises(LawError, match="is no number of threads"):
        streams.draw(LAW, (3,), 0, "w", threads=threads)


def test_an_index_that_is_no_region_is_refused():
    with pytest.raises(LawError, match="is no Region"):
        streams.fill(np.zeros(3, np.float32), LAW, 0, "w", (slice(0, 3),))
    with pytest.raises(LawError, match="for a region of shape"):
        streams.fill(np.zeros(3, np.float32), LAW, 0, "w", Region((4,)))
