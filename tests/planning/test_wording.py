"""Words of a plan's notes."""

from stepzero.planning._wording import keepers, some


def test_long_lists_are_cut_and_counted():
    assert some("abcd") == "a, b, c, d"
    assert some("abcde") == "a, b, c, d … (5 in all)"


def test_one_parameter_is_not_many():
    assert (keepers(1), keepers(2)) == ("1 parameter keeps its values", "2 parameters keep their values")
