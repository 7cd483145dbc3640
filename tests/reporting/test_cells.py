import math

import pytest

from stepzero import laws
from stepzero.reporting import count, fan, law_name, number, shape


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0481125, "0.0481"),
        (0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (99999.0, "1e+05"),
        (123456.0, "1.23e+05"),
        (1e-24, "1e-24"),
    ],
)
def test_numbers_have_three_significant_digits(value, shown):
    assert number(value) == shown


def test_unknown_and_diverging_numbers_are_told_apart():
    assert (number(None), number(math.inf), number(math.nan)) == ("-", "inf", "nan")


@pytest.mark.parametrize(("value", "shown"), [(576.0, "576"), (534.83, "534.8"), (225791.1, "225791"), (None, "-")])
def test_fans_are_whole_where_they_are_whole(value, shown):
    assert fan(value) == shown


def test_shapes_and_counts_are_short():
    assert (shape((64, 3, 7, 7)), shape(()), shape((5,))) == ("64×3×7×7", "scalar", "5")
    assert (count(999), count(1_000), count(7_000_000_000)) == ("999", "1.0 k", "7.0 G")


@pytest.mark.parametrize(
    ("law", "shown"),
    [
        (laws.Normal(0.1), "normal"),
        (laws.TruncatedNormal(0.1), "trunc. normal"),
        (laws.Constant(0.0), "constant 0"),
        (laws.DeltaOrthogonal(1.0), "delta orthogonal"),
        (laws.Kept(), "kept"),
    ],
)
def test_a_law_is_named_without_its_scale(law, shown):
    assert law_name(law) == shown
