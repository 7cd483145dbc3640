"""Manifests: read back as written, equal for equal bits, refused when damaged."""

import json
from dataclasses import replace

import pytest

from stepzero.errors import FileError
from stepzero.filling import Manifest, SavedTensor
from stepzero.laws import Normal

ONE = SavedTensor("a", (2, 3), "float32", Normal(0.5), "one.safetensors", "aa")
TWO = SavedTensor("b", (), "int64", None, "two.safetensors", "bb")
MANIFEST = Manifest(3, (ONE, TWO))


def test_a_manifest_is_read_back_as_it_was(tmp_path):
    path = tmp_path / "m.json"
    path.write_text(json.dumps(MANIFEST.to_dict()))
    assert Manifest.load(path) == MANIFEST


def test_the_digest_is_of_names_and_bytes_and_not_of_files_order_or_seed():
    moved = Manifest(9, (TWO, replace(ONE, file="two.safetensors")))
    assert moved.digest == MANIFEST.digest
    assert Manifest(3, (ONE, replace(TWO, sha256="bc"))).digest != MANIFEST.digest
    assert Manifest(3, (ONE, replace(TWO, name="c"))).digest != MANIFEST.digest


def test_a_person_sees_what_was_drawn_and_what_was_copied():
    assert "2 tensors in 2 file(s), seed 3" in str(MANIFEST)
    assert "copied" in MANIFEST.to_markdown()
    assert "<table" in MANIFEST.to_html()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: [], "not a manifest of format"),
        (lambda data: data | {"version": 2}, "not a manifest of format"),
        (lambda data: data | {"tensors": {"a": {}}}, "damaged"),
        (lambda data: {name: value for name, value in data.items() if name != "seed"}, "damaged"),
    ],
)
def test_what_is_no_manifest_is_refused(change, message):
    with pytest.raises(FileError, match=message):
        Manifest.from_dict(change(MANIFEST.to_dict()))


def test_a_file_that_is_no_manifest_is_named(tmp_path):
    with pytest.raises(FileError, match=r"gone\.json is not a manifest"):
        Manifest.load(tmp_path / "gone.json")
