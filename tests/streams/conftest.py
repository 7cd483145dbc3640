"""The published vectors of `stepzero-v1`, and the engines that have to agree with them."""

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def vectors():
    return json.loads(Path(__file__).with_name("vectors.json").read_text())


@pytest.fixture(params=["numpy", "numba"])
def engine(request):
    if request.param == "numba":
        pytest.importorskip("numba")
    return request.param
