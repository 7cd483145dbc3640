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


def test_a_law_that_differs_is_named_and_exit_code_1(cli, tmp_path):
    other = Entry("weight", (8, 4), "float32", Normal(0.25))
    ran = cli("diff", saved(tmp_path, "a.json", *ENTRIES), saved(tmp_path, "b.json", other, ENTRIES[1]), "--json")
    assert ran.code == 1
    (row,) = ran.data["differences"]
    assert (row["name"], row["what"]) == ("weight", "law")


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
