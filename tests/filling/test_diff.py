import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from stepzero import filling
from stepzero.errors import FileError, RenameError
from stepzero.laws import Constant, Normal, Orthogonal, Parts, TruncatedNormal, Uniform
from stepzero.network import build

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
        "factor": None,
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


def entries(**laws):
    return {name: Entry((6, 4), "float32", law) for name, law in laws.items()}


@pytest.mark.parametrize(
    ("one", "other", "what", "factor"),
    [
        (Normal(0.02), Normal(0.01), "scale", 0.5),
        (Uniform(-0.1, 0.1), Uniform(-0.3, 0.3), "scale", 3.0),
        (TruncatedNormal(0.02), TruncatedNormal(0.04), "scale", 2.0),
        (Orthogonal(1.0), Orthogonal(2.0), "scale", 2.0),
        (
            Parts.stacked([Normal(1.0), Constant(0.5)], [3, 3]),
            Parts.stacked([Normal(2.0), Constant(1.0)], [3, 3]),
            "scale",
            2.0,
        ),
        (Normal(0.02), TruncatedNormal(0.01), "law", 0.5),
        (TruncatedNormal(0.02), TruncatedNormal(0.02, -3.0, 3.0), "law", 1.0),
        (Normal(0.02, 1.0), Normal(0.04, 1.0), "law", None),
        (Constant(0.0), Constant(1.0), "law", None),
    ],
)
def test_a_law_that_is_the_other_times_a_factor_differs_in_scale(one, other, what, factor):
    (row,) = filling.diff(entries(w=one), entries(w=other)).differences
    assert row.what == what
    assert factor is None or row.factor == pytest.approx(factor)


def test_laws_that_differ_by_rounding_are_the_same():
    assert not filling.diff(entries(w=Normal(0.1)), entries(w=Normal(0.1 * (1 + 1e-9))))


def test_recorded_models_are_compared_by_their_authors_laws():
    def smaller():
        layer = net()
        nn.init.uniform_(layer[0].weight, -0.1, 0.1)
        return layer

    found = filling.diff(build(net), build(smaller))
    (row,) = found.differences
    assert (row.name, row.what) == ("0.weight", "scale")
    assert row.factor == pytest.approx(0.1 * 5**0.5, rel=1e-6)
    assert found.same == 6
    assert "scale: 1" in str(found)


def test_checkpoints_of_one_law_tell_how_much_larger_one_is():
    one, other = net(), net()
    with torch.no_grad():
        other[0].weight.copy_(3 * one[0].weight)
    (row,) = [row for row in filling.diff(one, other).differences if row.name == "0.weight"]
    assert row.what == "bits"
    assert row.factor == pytest.approx(3)


def test_names_of_one_side_are_spelled_as_the_other_does():
    old = entries(**{"blocks.0.norm1.w": Normal(1.0), "blocks.11.norm1.w": Normal(1.0), "head.w": Normal(2.0)})
    new = entries(**{"layer.0.before.w": Normal(1.0), "layer.11.before.w": Normal(1.0), "classifier.w": Normal(2.0)})
    assert not filling.diff(old, new, names=["blocks.*.norm1.*=layer.*.before.*", "head.*=classifier.*"])
    assert not filling.diff(old, new, names=[r"re:^blocks\.(\d+)\.norm1=layer.\1.before", "re:^head=classifier"])


def test_rows_of_a_packed_tensor_become_tensors():
    packed = {
        "0.qkv": Entry((9, 4), "float32", Normal(0.02)),
        "1.qkv": Entry((9, 4), "float32", Parts.stacked([Normal(1.0)] * 2, [3, 6])),
    }
    apart = {f"{i}.{part}": Entry((3, 4), "float32", Normal(0.02)) for i in (0, 1) for part in "qkv"}
    rules = ["*.qkv[0:3]=*.q", "*.qkv[3:6]=*.k", "*.qkv[6:9]=*.v"]
    found = filling.diff(packed, apart, names=rules)
    assert rows(found) == {"1.q": "scale"}  # of the other rows of 1.qkv no one law is known
    assert found.same == 5


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("a.w", "not of the form OLD=NEW"),
        ("=b", "not of the form"),
        ("a.*=*.*", r"NEW has more \* than OLD"),
        ("re:(=b", "regular expression"),
        ("c.*=d.*", "matches no tensor"),
        ("?.w=same", "two tensors are renamed to 'same'"),
        ("a.w[0:7]=b", "has no rows 0:7"),
        ("a.v=b", "Near it: a.w"),
    ],
)
def test_rules_without_sense_or_effect_are_refused(rule, message):
    with pytest.raises(RenameError, match=message):
        filling.diff(entries(**{"a.w": Normal(1.0), "b.w": Normal(1.0)}), {}, names=[rule])
