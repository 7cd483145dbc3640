import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepzero.reporting import dumps

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(PLAIN)
def test_what_is_written_reads_back(data):
    assert json.loads(dumps(data)) == data


def test_what_fits_on_a_line_stands_on_one_and_the_rest_is_broken_up():
    data = {"shape": [1, 2], "names": ["a" * 60, "b" * 60]}
    broken = f'{{\n  "shape": [1, 2],\n  "names": [\n    "{"a" * 60}",\n    "{"b" * 60}"\n  ]\n}}\n'
    assert dumps(data) == broken


def test_numbers_that_json_lacks_become_text_that_float_reads():
    read = json.loads(dumps([math.inf, -math.inf, math.nan]))
    assert read == ["inf", "-inf", "nan"]
    assert math.isnan(float(read[2]))


def test_numpy_numbers_and_tuples_are_written_as_what_they_mean():
    assert dumps((np.float64(0.5), np.int64(3), np.bool_(True))) == "[0.5, 3, true]\n"


def test_anything_else_is_refused():
    with pytest.raises(TypeError, match="object"):
        dumps({"model": object()})
