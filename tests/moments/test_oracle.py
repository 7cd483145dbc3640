"""Predictions agree with exact infinite-width kernels, which neural-tangents computed (`python benchmarks/oracle.py make`)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

ORACLE = Path(__file__).parents[2] / "benchmarks" / "oracle.py"
STORED = json.loads((Path(__file__).parent / "oracle.json").read_text(encoding="utf-8"))
POOLED = 0.01  # pools read how pairs of places fade with distance, of which two numbers are kept
# A mean over a map whose borders differ from its middle: elsewhere is one number for all pairs of places.
LIMITS = {
    "average pooling": POOLED,
    "global average after five layers": POOLED,
    "global average, zero padding": 0.02,
}


@pytest.fixture(scope="module")
def oracle():
    spec = importlib.util.spec_from_file_location("oracle", ORACLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", STORED["nets"])
def test_every_layer_has_the_kernels_second_moment_and_covariance_across_inputs(oracle, name):
    net = STORED["nets"][name]
    predicted, exact = np.array(oracle.predict(net)), np.array(net["values"])
    assert predicted.shape == exact.shape
    assert np.abs(predicted / exact - 1).max() < LIMITS.get(name, 1e-3)


def test_the_stored_kernels_are_those_of_the_nets_that_the_recipe_names(oracle):
    nets = json.loads(json.dumps(oracle.NETS))
    assert {name: {k: net[k] for k in ("size", "layers")} for name, net in STORED["nets"].items()} == nets
    assert STORED["recipe"]["inputs"] == {"elsewhere": oracle.ELSEWHERE, "across": oracle.ACROSS, "apart": oracle.APART}


def test_the_kernel_of_one_relu_layer_is_the_arc_cosine_kernel():
    """Cho & Saul 2009, eq. 6, as a word of another source: E[relu relu'] = (sin t + (π - t) cos t)/(2π) per unit of q."""
    net = STORED["nets"]["global average after one layer"]
    (q, across), (relu, relu_across) = net["values"][:2]
    angle = np.arccos(across / q)
    assert relu == pytest.approx(q / 2, rel=1e-12)
    assert relu_across == pytest.approx(q * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi), rel=1e-12)
