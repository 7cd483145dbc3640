"""Laws of parts, copies and given numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepzero.errors import LawError
from stepzero.laws import Constant, Copy, Dirac, Identity, Kept, Normal, Parts, Uniform, Values

EVERYWHERE = ((), Normal(2.0, 1.0))


@st.composite
def boxes(draw):
    """Return boxes of a tensor of shape (6, 5)."""
    cuts = [draw(st.tuples(st.integers(0, n - 1), st.integers(1, n))) for n in (6, 5)[: draw(st.integers(0, 2))]]
    return tuple((min(a, b - 1), b) if a >= b else (a, b) for a, b in cuts)


@given(st.lists(st.tuples(boxes(), st.floats(-3, 3)), max_size=5))
def test_moments_are_those_of_the_last_part_that_covers_an_element(parts):
    law = Parts((EVERYWHERE, *((box, Constant(value)) for box, value in parts)))
    mean, second = (np.broadcast_to(m, (6, 5)) for m in law.moments((6, 5)))
    for i, j in np.ndindex(6, 5):
        over = [value for box, value in parts if all(a <= k < b for (a, b), k in zip(box, (i, j), strict=False))]
        expected = (over[-1], over[-1] ** 2) if over else (1.0, 5.0)
        assert (mean[i, j], second[i, j]) == pytest.approx(expected)


def test_moments_stay_lean_where_parts_do_not_cut():
    mean, second = Parts.stacked([Normal(1.0), Normal(2.0)], [2, 4]).moments((6, 500, 3))
    assert mean.shape == second.shape == (6, 1, 1)
    assert second.ravel().tolist() == [1, 1, 4, 4, 4, 4]


def test_patterns_in_parts_have_their_own_moments():
    mean, _ = Parts.stacked([Identity(2.0), Constant(1.0)], [2, 1]).moments((3, 2))
    assert mean.tolist() == [[2, 0], [0, 2], [1, 1]]


@pytest.mark.parametrize(
    ("law", "shape", "message"),
    [
        (Parts.stacked([Normal(1.0)], [2]), (3, 2), "leave some of shape"),
        (Parts.stacked([Normal(1.0)], [4]), (3, 2), "does not lie within shape"),
        (Parts((EVERYWHERE, (((0, 1), (0, 1), (0, 1)), Constant(0.0)))), (3, 2), "does not lie within"),
        (Parts.stacked([Dirac()], [3]), (3, 2), "Dirac: needs a kernel"),
        (Values.of(np.zeros(3)), (4,), r"numbers of shape \(3,\) for a tensor of shape \(4,\)"),
        (Copy("a", Dirac()), (3, 2), "Dirac: needs a kernel"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(law, shape, message):
    with pytest.raises(LawError, match=message):
        law.require(shape)


@pytest.mark.parametrize("law", [Kept(), Parts((EVERYWHERE,)), Copy("a", Normal(1.0)), "normal"])
def test_what_is_not_drawn_is_no_part(law):
    with pytest.raises(LawError, match="cannot be the law of a box"):
        Parts((((), law),))


def test_a_copy_has_the_moments_of_its_law():
    law = Copy("a", Uniform(1.0, 3.0))
    assert (law.mean, law.std) == (2.0, Uniform(1.0, 3.0).std)
    assert law.moments((4,))[1] == Uniform(1.0, 3.0).moments((4,))[1]


def test_long_parts_print_short():
    assert repr(Parts.stacked([Constant(i) for i in range(9)], [1] * 9)).endswith("… 9 in all)")


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int64", ">f8"])
def test_given_numbers_come_back(kind):
    numbers = np.arange(6).reshape(2, 3).astype(kind)
    law = Values.of(numbers)
    assert (law.array == numbers).all()
    assert law == Values.of(numbers.copy())
    assert not law.array.flags.writeable
