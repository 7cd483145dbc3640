import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from stepzero import filling
from stepzero.errors import FileError
from stepzero.laws import Normal, Uniform

from .plans import Entry, plan_for


def net():
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))


def rows(found):
    return {row.name: row.what for row in found.differences}


@pytest.fixture
def plan():
    return plan_for(net())


def test_equal_things_do_not_differ(tmp_path, plan):
    one = filling.save(plan, tmp_path / "a.safetensors")
    filling.save(plan, tmp_path / "shards", max_shard_size="50B")
    for other in (one, tmp_path / "a.safetensors", tmp_path / "a.stepzero.json", tmp_path / "shards", plan):
        found = filling.diff(one, other)
        assert not found
        assert found.same == 4


def test_a_model_is_compared_by_its_bits(tmp_path, plan):
    model = net()
    filling.apply(plan, model, 0)
    filling.save(plan, tmp_path / "a.safetensors", buffers=dict(model.named_buffers()))
    assert not filling.diff(model, tmp_path / "a.safetensors")
    with torch.no_grad():
        model[0].weight[0, 0] += 1
    assert rows(filling.diff(tmp_path / "a.safetensors", model)) == {"0.weight": "bits"}


def test_law_and_seed_are_named_where_they_explain_the_bits(tmp_path, plan):
    one = filling.save(plan, tmp_path / "a.safetensors", 0)
    assert rows(filling.diff(one, filling.save(plan, tmp_path / "b.safetensors", 1))) == {"0.weight": "seed"}
    changed = plan | {"0.weight": Entry((4, 5), "float32", Uniform(-1.0, 1.0))}
    assert rows(filling.diff(one, filling.save(changed, tmp_path / "c.safetensors"))) == {"0.weight": "law"}
    assert rows(filling.diff(plan, changed)) == {"0.weight": "law"}


def test_a_manifest_does_not_vouch_for_bytes_that_were_changed(tmp_path, plan):
    one = filling.save(plan, tmp_path / "a.safetensors", 0)
    tensors = load_file(tmp_path / "a.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, tmp_path / "a.safetensors")
    assert set(rows(filling.diff(one, tmp_path / "a.safetensors")).values()) == {"bits"}


def test_shape_format_and_absence_are_named(plan):
    other = dict(plan) | {
        "0.weight": Entry((4, 6), "float32", Normal(0.02)),
        "0.bias": Entry((4,), "bfloat16", plan["0.bias"].law),
    }
    del other["1.weight"]
    other["new"] = plan["0.bias"]
    found = filling.diff(plan, other)
    assert rows(found) == {"0.weight": "shape", "0.bias": "dtype", "1.weight": "missing", "new": "missing"}
    assert found.same == 1
    assert found.to_dict()["differences"][0] == {
        "name": "0.weight",
        "what": "shape",
        "first": "(4, 5)",
        "second": "(4, 6)",
    }
    for page in (str(found), found.to_markdown(), found.to_html()):
        assert "bfloat16" in page


def test_what_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 100)
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "bad.safetensors", "not a safetensors file"),
        (tmp_path / "empty", "holds no safetensors"),
    ):
        with pytest.raises(FileError, match=message):
            filling.diff(path, path)
    with pytest.raises(TypeError, match="int cannot be compared"):
        filling.diff(1, {})
