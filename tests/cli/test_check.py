import json
from pathlib import Path

import pytest

NETS = Path(__file__).with_name("nets.py")
STACK = (f"{NETS}:stack", "--input", "8x3x8x8")


@pytest.fixture
def saved(cli, tmp_path):
    plan, weights = tmp_path / "plan.json", tmp_path / "stack.safetensors"
    assert cli("plan", *STACK, "-o", plan).code == 0
    assert cli("init", *STACK, "--plan", plan, "-o", weights, "--no-check").code == 0
    return plan, weights


def test_a_file_drawn_from_a_plan_passes_against_it(cli, saved):
    plan, weights = saved
    ran = cli("check", *STACK, "--plan", plan, "--weights", weights, "--json")
    assert ran.code == 0, ran.err
    assert ran.data["ok"] is True
    assert len(ran.data["rows"]) == 3


def test_a_plan_alone_is_drawn_first(cli, saved):
    assert cli("check", *STACK, "--plan", saved[0], "--seed", "3").code == 0


def test_a_file_that_another_plan_drew_fails_with_exit_code_1_and_the_layer_is_named(cli, saved):
    plan, weights = saved
    data = json.loads(plan.read_text())
    data["parameters"]["2.weight"]["law"]["std"] *= 2
    plan.write_text(json.dumps(data))
    ran = cli("check", *STACK, "--plan", plan, "--weights", weights)
    assert ran.code == 1
    assert "Check: FAIL" in ran.out
    assert "- 2.weight: " in ran.out


def test_a_models_own_init_is_held_against_its_own_second_moments(cli):
    ran = cli("check", *STACK, "--json")
    assert ran.code == 0
    first = ran.data["rows"][0]
    assert first["predicted"] == pytest.approx(
        1 / 3, rel=0.2
    )  # torch's default: 27/(3·27), ±4 % for 432 weights; seed 0


def test_the_constructors_own_draws_follow_the_seed(cli):
    one, same, other = (
        cli("check", *STACK, "--seed", seed, "--json").data["rows"][0]["predicted"] for seed in (1, 1, 2)
    )
    assert one == same != other


def test_weights_of_another_model_are_misuse(cli, saved):
    ran = cli("check", f"{NETS}:normed", "--input", "8x3x8x8", "--weights", saved[1])
    assert (ran.code, ran.out) == (2, "")
    assert "misses 1.weight" in ran.err


@pytest.mark.parametrize("content", [None, b"not safetensors"])
def test_a_file_that_cannot_be_read_is_misuse(cli, tmp_path, content):
    path = tmp_path / "bad.safetensors"
    if content is not None:
        path.write_bytes(content)
    ran = cli("check", *STACK, "--weights", path)
    assert ran.code == 2
    assert "bad.safetensors cannot be read" in ran.err
