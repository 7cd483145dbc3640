"""Laws as plain data and back."""

import json

import numpy as np
import pytest

from stepzero.errors import LawError
from stepzero.laws import (
    LAWS,
    Constant,
    Copy,
    DeltaOrthogonal,
    Dirac,
    Identity,
    Kept,
    Mapped,
    Normal,
    Norms,
    Orthogonal,
    Parts,
    Sparse,
    Sphere,
    TruncatedNormal,
    Uniform,
    Values,
    from_dict,
)

EVERY = [
    Normal(0.1, 2.0), Uniform(-1.0, 2.0), TruncatedNormal(0.3, -1.0, 3.0), Orthogonal(2.0, 4), DeltaOrthogonal(1.5), Dirac(2),
    Identity(0.5), Sparse(0.9, 0.2), Constant(3.0), Kept(),
    Parts((((), Normal(1.0)), (((0, 2), (1, 3)), Orthogonal(2.0)))), Copy("a.weight", Normal(0.5)), Values.of(np.arange(6.0).reshape(2, 3)),
    Mapped(Uniform(0.1, 1.0), (("log",), ("clamp", None, -0.2), ("mul", -2.0))), Sphere(2.0, 1), Norms("v", Normal(0.5), (3, 4), 1),
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
        ({"law": "parts"}, "parts: KeyError"),
        ({"law": "parts", "parts": [{"box": [[2, 1]], "law": "constant", "value": 0}]}, "is no box"),
        ({"law": "parts", "parts": []}, "no parts"),
        ({"law": "parts", "parts": [{"box": [], "law": "kept"}]}, "cannot be the law of a box"),
        ({"law": "copy", "of": "", "as": {"law": "constant", "value": 0}}, "no name of a parameter"),
        ({"law": "values", "shape": [2], "dtype": "float32", "data": "AAAA"}, "3 bytes are no float32"),
        ({"law": "values", "shape": [2], "dtype": "float32", "data": "?"}, "not base64"),
        ({"law": "mapped", "of": {"law": "normal", "std": 1.0, "mean": 0.0}, "steps": [["sin"]]}, "step .* is unknown"),
        ({"law": "mapped", "of": {"law": "normal", "std": 1.0, "mean": 0.0}, "steps": 3}, "mapped: TypeError"),
        ({"law": "norms", "of": "v", "as": {"law": "kept"}, "shape": [2], "axis": 0}, "no law that v is drawn from"),
    ],
)
def test_bad_data_is_named(data, message):
    with pytest.raises(LawError, match=message):
        from_dict(data)
