"""What two outputs of a convolution share, counted tap by tap."""

import itertools

import pytest

from stepzero.moments._meetings import meetings


def counted(size, kernel, stride, padding, dilation):
    """The same by brute force on a square map: the input (or None) that each weight of each output reads."""
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1

    def reads(o):
        found = {}
        for t in itertools.product(range(kernel), repeat=2):
            at = tuple(p * stride - padding + s * dilation for p, s in zip(o, t, strict=True))
            if all(0 <= a < size for a in at):
                found[t] = at
        return found

    places = {o: reads(o) for o in itertools.product(range(outputs), repeat=2)}

    def mean(pairs, count):
        return sum(count(places[o], places[p]) / (len(places[o]) * len(places[p])) for o, p in pairs) / len(pairs)

    def weights(a, b):
        return len(a.keys() & b.keys())

    def inputs(a, b):
        return len(set(a.values()) & set(b.values()))

    others = [(o, p) for o in places for p in places if o != p]
    near = [(o, p) for o, p in others if sum(abs(a - b) for a, b in zip(o, p, strict=True)) == 1]
    own = [(o, o) for o in places]
    return [
        mean(own, weights),
        mean(near, weights),
        mean(others, weights),
        mean(near, inputs),
        mean(others, inputs),
    ], outputs


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation"),
    [(4, 3, 1, 1, 1), (7, 5, 2, 2, 1), (6, 3, 1, 0, 2), (2, 3, 1, 1, 1)],
)
def test_shares_are_those_counted_one_by_one(size, kernel, stride, padding, dilation):
    expected, outputs = counted(size, kernel, stride, padding, dilation)
    axis = (size, kernel, stride, padding, dilation, outputs)
    assert list(meetings([axis, axis])) == pytest.approx(expected, rel=1e-12)


def test_named_padding_and_several_channels():
    same = meetings([(9, 3, 1, "same", 1, 9)])
    assert same == meetings([(9, 3, 1, 1, 1, 9)])
    assert same.over(4).own == pytest.approx(same.own / 4)


def test_long_axes_are_like_shorter_ones_inside():
    long = meetings([(100_000, 3, 1, 1, 1, 100_000)])
    assert long.own == pytest.approx(1 / 3, rel=0.01)
    assert long.inputs_near == pytest.approx(2 / 9, rel=0.02)
