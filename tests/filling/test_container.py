import json

import pytest
import torch
from safetensors.torch import save_file

from stepzero.errors import FileError
from stepzero.filling._container import Spec, arranged, header, read_header


def test_wide_formats_come_first_so_that_every_tensor_is_aligned():
    specs = [
        Spec("a", (3,), "bool"),
        Spec("b", (1,), "float64"),
        Spec("c", (3,), "bfloat16"),
        Spec("d", (2,), "float32"),
    ]
    head = header(specs, {"format": "pt"})
    table = json.loads(head[8:])
    assert [spec.name for spec in arranged(specs)] == ["b", "d", "c", "a"]
    assert len(head) % 8 == 0
    for spec in specs:
        assert table[spec.name]["data_offsets"][0] % (spec.nbytes // spec.shape[0]) == 0


def test_headers_of_other_writers_are_read(tmp_path):
    save_file({"w": torch.ones(2, 3), "b": torch.zeros(3, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    found = read_header(tmp_path / "a.safetensors")
    assert (found["w"].code, found["w"].shape, found["w"].end - found["w"].begin) == ("F32", (2, 3), 24)
    assert found["b"].code == "BF16"
    assert max(place.end for place in found.values()) == (tmp_path / "a.safetensors").stat().st_size


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 8, b"\xff" * 16, (2).to_bytes(8, "little") + b"[]", (9).to_bytes(8, "little") + b'{"a": {}}'],
)
def test_damaged_headers_are_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(FileError, match="is not a safetensors file"):
        read_header(tmp_path / "a")
    with pytest.raises(FileError, match="cannot be read"):
        read_header(tmp_path / "none")
