from pathlib import Path

import pytest

from stepzero.laws import Constant, Normal
from stepzero.planning import Entry, Plan

ENTRIES = (Entry("weight", (8, 4), "float32", Normal(0.5)), Entry("bias", (8,), "float32", Constant(0.0)))


def saved(folder, name, *entries):
    return Plan(entries, model="Linear").save(folder / name)


def test_equal_plans_are_exit_code_0(cli, tmp_path):
    paths = [saved(tmp_path, name, *ENTRIES) for name in ("a.json", "b.json")]
    ran = cli("diff", *paths)
    assert (ran.code, ran.err) == (0, "")
    assert "0 tensors differ, 2 do not" in ran.out


def test_a_scale_that_differs_is_named_and_exit_code_1(cli, tmp_path):
    other = Entry("weight", (8, 4), "float32", Normal(0.25))
    ran = cli("diff", saved(tmp_path, "a.json", *ENTRIES), saved(tmp_path, "b.json", other, ENTRIES[1]), "--json")
    assert ran.code == 1
    (row,) = ran.data["differences"]
    assert (row["name"], row["what"]) == ("weight", "scale")


def test_files_of_two_seeds_differ_in_their_seed(cli, tmp_path):
    import stepzero as sz

    plan = Plan(ENTRIES)
    for name, seed in (("a.safetensors", 0), ("b.safetensors", 1)):
        sz.save(plan, tmp_path / name, seed=seed)
    ran = cli("diff", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--json")
    assert ran.code == 1
    assert [(row["name"], row["what"]) for row in ran.data["differences"]] == [("weight", "seed")]
    assert cli("diff", tmp_path / "a.safetensors", tmp_path / "a.stepzero.json").code == 0


def test_a_path_that_is_not_there_is_exit_code_2(cli, tmp_path):
    ran = cli("diff", tmp_path / "a.json", tmp_path / "b.safetensors")
    assert (ran.code, ran.out) == (2, "")
    assert "a.json" in ran.err


def test_models_are_compared_by_their_authors_laws_under_other_names(cli, tmp_path):
    nets = Path(__file__).with_name("nets.py")
    rules = tmp_path / "names.map"
    rules.write_text("# layers\n0.*=first.*   # the first\n2.*=second.*\n")
    ran = cli("diff", f"{nets}:two", f"{nets}:Summing", "--map-file", rules, "--json")
    assert (ran.code, ran.err) == (1, "")
    (row,) = ran.data["differences"]
    assert (row["name"], row["what"]) == ("second.weight", "scale")
    assert row["factor"] == pytest.approx(1 / 3)


def test_rules_that_cannot_be_read_are_exit_code_2(cli, tmp_path):
    path = saved(tmp_path, "a.json", *ENTRIES)
    ran = cli("diff", path, path, "--map", "wieght=w")
    assert (ran.code, ran.out) == (2, "")
    assert "matches no tensor. Near it: weight" in ran.err
