"""Laws as plain data and back."""

import json

import pytest

from stepzero.errors import LawError
from stepzero.laws import (
    LAWS,
    Constant,
    DeltaOrthogonal,
    Dirac,
    Identity,
    Kept,
    Normal,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
    from_dict,
)

EVERY = [
    Normal(0.1, 2.0), Uniform(-1.0, 2.0), TruncatedNormal(0.3, -1.0, 3.0), Orthogonal(2.0, 4), DeltaOrthogonal(1.5), Dirac(2),
    Identity(0.5), Sparse(0.9, 0.2), Constant(3.0), Kept(),
]  # fmt: skip


def test_every_law_is_in_the_list():
    assert {type(law) for law in EVERY} == set(LAWS.values())


@pytest.mark.parametrize("law", EVERY, ids=repr)
def test_a_law_survives_json_and_prints_its_kind(law):
    assert from_dict(json.loads(json.dumps(law.to_dict()))) == law
    assert type(law).__name__ in repr(law)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"law": "nrmal", "std": 1.0}, "law='nrmal' is not a law. Choose one of normal"),
        ({"std": 1.0}, "law=None"),
        ({"law": "normal"}, "std"),
        ({"law": "normal", "std": 1.0, "width": 2}, "normal: unknown setting 'width'. It takes mean, std"),
        ({"law": "normal", "std": -1.0}, r"std=-1\.0 is negative"),
        ({"law": "kept", "value": 1}, "It takes none"),
    ],
)
def test_bad_data_is_named(data, message):
    with pytest.raises(LawError, match=message):
        from_dict(data)
