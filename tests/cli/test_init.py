from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from stepzero import Plan, filling, laws

NETS = Path(__file__).with_name("nets.py")
STACK = (f"{NETS}:stack", "--input", "8x3x8x8")


def test_init_plans_draws_writes_and_proves(cli, tmp_path):
    path = tmp_path / "stack.safetensors"
    ran = cli("init", *STACK, "-o", path)
    assert ran.code == 0, ran.err
    assert ran.out.index("Plan for") < ran.out.index(f"Wrote {path}") < ran.out.index("Check: pass")
    assert sorted(load_file(path)) == sorted(f"{at}.{kind}" for at in (0, 2, 4) for kind in ("weight", "bias"))


def test_values_in_the_file_are_those_of_the_laws(cli, tmp_path):
    path = tmp_path / "stack.safetensors"
    report = cli("init", *STACK, "-o", path, "--seed", "7", "--json").data
    law = laws.from_dict(report["plan"]["parameters"]["2.weight"]["law"])
    np.testing.assert_array_equal(load_file(path)["2.weight"], law.draw((16, 16, 3, 3), seed=7, name="2.weight"))
    assert report["check"]["ok"] is True
    assert report["file"]["bytes"] == path.stat().st_size


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(cli, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert cli("init", *STACK, "-o", tmp_path / f"{name}.safetensors", "--seed", seed, "--no-check").code == 0
    a, b, c = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_buffers_and_kept_parameters_reach_the_file_so_that_a_strict_load_succeeds(cli, tmp_path):
    path = tmp_path / "normed.safetensors"
    assert cli("init", f"{NETS}:normed", "--input", "16x3x8x8", "-o", path).code == 0
    stored = load_file(path)
    assert stored["1.running_var"].tolist() == [1.0] * 16
    assert stored["1.num_batches_tracked"] == 0


def test_singular_vectors_in_the_file_are_those_of_its_weight(cli, tmp_path):
    path = tmp_path / "spectral.safetensors"
    ran = cli("init", f"{NETS}:spectral", "--input", "64x16", "--seed", "5", "-o", path)
    assert ran.code == 0, ran.err
    stored = load_file(path)
    weight, u, v = (stored[f"0.parametrizations.weight.{end}"] for end in ("original", "0._u", "0._v"))
    assert u @ weight @ v / np.linalg.norm(weight, 2) == pytest.approx(1.0, abs=0.05)


def test_what_the_plan_keeps_has_the_constructors_values_and_tied_weights_stand_once(cli, tmp_path):
    path = tmp_path / "positioned.safetensors"
    ran = cli("init", f"{NETS}:Positioned", "--input", "64x8", "-o", path, "--no-check")
    assert ran.code == 0, ran.err
    stored = load_file(path)
    assert stored["position"].tolist() == [0.25] * 8
    assert stored["table"].tolist() == list(range(8))
    assert "first.weight" in stored
    assert "second.weight" not in stored


def test_shards_of_another_format_are_written_loaded_and_checked(cli, tmp_path):
    folder = tmp_path / "stack"
    ran = cli("init", *STACK, "-o", folder, "--dtype", "bfloat16", "--max-shard-size", "6KB", "--json")
    assert ran.code == 0, ran.err
    assert (
        ran.data["file"]["files"] == len(list(folder.glob("*.safetensors"))) == 2
    )  # 2.weight and 4.weight take 4.6 kB each
    assert ran.data["file"]["bytes"] == sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert ran.data["check"]["ok"] is True


LOOKUP = (f"{NETS}:Lookup", "--input", "64x4:int64", "--no-check")


def test_the_authors_laws_of_what_we_leave_alone_count_in_the_plan(cli, tmp_path):
    path = tmp_path / "lookup.safetensors"
    report = cli("init", *LOOKUP, "-o", path, "--json").data["plan"]["parameters"]
    table = load_file(path)["table.weight"].astype(float)
    assert report["table.weight"]["law"] == {"law": "normal", "mean": 0.0, "std": 3.0}  # the author's
    assert np.square(table[1:]).mean() == pytest.approx(9, rel=0.4)  # 144 values: ±12 %; seed 0
    assert report["read.weight"]["law"]["std"] == pytest.approx((16 * 9) ** -0.5, rel=1e-6)


def test_a_padding_row_stays_zero_in_the_file(cli, tmp_path):
    path = tmp_path / "lookup.safetensors"
    ran = cli("init", *LOOKUP, "-o", path, "--override", "table.weight=normal:std=1")
    assert ran.code == 0, ran.err
    table = load_file(path)["table.weight"]
    assert not table[0].any()
    assert table[1:].all()


def test_a_saved_plan_is_what_is_drawn(cli, tmp_path):
    plan, path = tmp_path / "plan.json", tmp_path / "stack.safetensors"
    assert cli("plan", *STACK, "--override", "0.weight=constant:value=0.5", "-o", plan).code == 0
    cli("init", *STACK, "--plan", plan, "-o", path, "--no-check")
    assert (load_file(path)["0.weight"] == 0.5).all()
    assert Plan.load(plan)["0.weight"].law.mean == 0.5


def test_a_check_that_fails_is_exit_code_1_and_the_file_is_there_to_look_at(cli, tmp_path):
    path = tmp_path / "summing.safetensors"
    ran = cli("init", f"{NETS}:Summing", "--input", "64x64", "--on-unknown", "identity", "-o", path)
    assert ran.code == 1, ran.err
    assert "Check: FAIL" in ran.out
    assert path.exists()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_nothing_is_replaced_without_overwrite(cli, tmp_path, make):
    path = tmp_path / "stack.safetensors"
    make(path)
    ran = cli("init", *STACK, "-o", path)
    assert (ran.code, ran.out) == (2, "")
    assert "is there already" in ran.err
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((f"{NETS}:weightless", "--input", "1x3"), "has no parameters"),
        ((f"{NETS}:failing", "--input", "1x3"), "no such dataset"),
        ((*STACK, "--seed", "-1"), "seed"),
        ((*STACK, "--plan", "missing.json"), "missing.json cannot be read"),
    ],
)
def test_misuse_is_exit_code_2_and_nothing_is_written(cli, tmp_path, arguments, message):
    path = tmp_path / "out.safetensors"
    ran = cli("init", *arguments, "-o", path)
    assert ran.code == 2
    assert message in ran.err
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_writing_leaves_nothing_behind_and_is_exit_code_130(cli, tmp_path, monkeypatch):
    def interrupt(done, total):
        raise KeyboardInterrupt

    save = filling.save
    monkeypatch.setattr(filling, "save", lambda *args, **options: save(*args, **(options | {"progress": interrupt})))
    ran = cli("init", *STACK, "-o", tmp_path / "out.safetensors")
    assert ran.code == 130
    assert "interrupted" in ran.err
    assert list(tmp_path.iterdir()) == []
