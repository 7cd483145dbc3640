import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from stepzero.cli._options import key_values, sizes

LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner),
)


@given(LITERALS)
def test_a_python_literal_arrives_as_itself(value):
    assert key_values([f"key={value!r}"]) == {"key": value}


@pytest.mark.parametrize("value", ["gelu", "a=b", "", "[1, 2", "torch.nn.ReLU"])
def test_anything_else_arrives_as_text(value):
    assert key_values([f"key={value}"]) == {"key": value}


@pytest.mark.parametrize("pairs", [["width"], ["=64"], ["a-b=1"], ["a=1", "a=2"]])
def test_what_names_no_argument_or_names_it_twice_is_misuse(pairs):
    with pytest.raises(typer.BadParameter):
        key_values(pairs)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
def test_sizes_are_read_back(numbers):
    assert sizes("x".join(map(str, numbers)), "SHAPE") == tuple(numbers)


@pytest.mark.parametrize("text", ["", "x", "3x", "3.5", "-3", "3xa", "3 x 3"])
def test_other_forms_of_sizes_are_misuse(text):
    with pytest.raises(typer.BadParameter, match="is not of the form"):
        sizes(text, "SHAPE")
