"""What axes stand for, and how a reshape pairs them."""

from __future__ import annotations

from math import prod

import pytest

from stepzero.moments import _roles as R

RESHAPES = (
    ((1, 512, 4096), (1, 512, 32, 128)),
    ((2, 3, 4), (6, 4)),
    ((2, 3), (3, 2)),
    ((4,), (1, 4, 1)),
    ((6, 1, 2), (3, 4)),
    ((1,), ()),
)


@pytest.mark.parametrize(("before", "after"), RESHAPES)
def test_paired_axes_of_a_reshape_hold_the_same_elements_in_order(
    before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    pairs = R.matched(before, after)
    assert all(prod(before[old]) == prod(after[new]) for old, new in pairs)
    assert [n for old, _ in pairs for n in before[old]] == list(before)
    assert [n for _, new in pairs for n in after[new]] == list(after)


def test_axes_are_paired_as_finely_as_they_can_be() -> None:
    assert [new for _, new in R.matched((5, 12), (5, 3, 4))] == [slice(0, 1), slice(1, 3)]


def test_an_empty_tensor_is_reshaped_as_a_whole():
    assert R.matched((0, 14, 2), (0, 1, 14, 2)) == [(slice(0, 3), slice(0, 4))]
    roles = (R.resize(R.single(8, "batch"), 0), R.single(14, "position"), R.single(2, "channel"))
    assert len(R.reshape(roles, (0, 1, 14, 2))) == 4
