"""Renames: shell patterns, regular expressions, and rows of packed tensors."""

import pytest

from stepzero.errors import RenameError
from stepzero.filling._facts import Facts
from stepzero.filling._renames import Rename, renamed
from stepzero.laws import Normal

QKV = {"attn.qkv.weight": Facts((12, 4), "float32", Normal(0.5)), "head.bias": Facts((3,), "float32")}


def test_stars_are_taken_over_in_order():
    rule = Rename.read("a.*.b.*=x.*-*")
    assert rule.apply("a.1.b.two") == "x.1-two"
    assert not rule.matches("pre.a.1.b.two")  # the whole name has to match


def test_a_regular_expression_is_replaced_wherever_it_is_found():
    assert Rename.read(r"re:(\d+)\.conv=\1.norm").apply("net.3.conv.weight") == "net.3.norm.weight"


def test_a_packed_tensor_is_cut_into_rows_that_keep_its_law():
    rules = [f"attn.qkv.*[{4 * i}:{4 * i + 4}]=attn.{part}.*" for i, part in enumerate("qkv")]
    found = renamed(QKV, rules)
    assert sorted(found) == ["attn.k.weight", "attn.q.weight", "attn.v.weight", "head.bias"]
    assert found["attn.k.weight"] == Facts((4, 4), "float32", Normal(0.5))


def test_rules_follow_each_other():
    assert "tail.offset" in renamed(QKV, ["head.*=tail.*", "*.bias=*.offset"])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["head.bias"], "not of the form OLD=NEW"),
        (["head.*=*.*"], "more \\* than OLD"),
        (["re:(=x"], "in the regular expression"),
        (["haed.bias=tail"], "matches no tensor. Near it: head.bias"),
        (["*=same"], "two tensors are renamed to 'same'"),
        (["attn.*[8:13]=v"], r"has no rows 8:13"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rules, message):
    with pytest.raises(RenameError, match=message):
        renamed(QKV, rules)
