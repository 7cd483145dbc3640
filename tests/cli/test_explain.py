from pathlib import Path

import pytest

from stepzero import Plan

NETS = Path(__file__).with_name("nets.py")


def test_the_chain_from_shape_to_bound_is_told(cli):
    ran = cli("explain", "32x1x5x5")
    assert ran.code == 0, ran.err
    assert all(number in ran.out for number in ("25", "0.2828", "0.4899"))


def test_settings_and_geometry_are_handed_on(cli):
    relu = cli("explain", "64x64x3x3", "--json").data
    leaky = cli("explain", "64x64x3x3", "--nonlinearity", "leaky_relu", "--param", "1", "--json").data
    strided = cli("explain", "64x64x3x3", "--stride", "2", "--mode", "fan_out", "--json").data
    assert relu["std"] / leaky["std"] == pytest.approx(2**0.5, rel=1e-12)  # slope 1 is linear: gain 1 instead of √2
    assert strided["fan"] == relu["fan"] / 4


@pytest.mark.parametrize(("name", "sign"), [("a.md", "$"), ("a.html", "<math"), ("a.txt", "std")])
def test_the_end_of_the_name_decides_the_form(cli, tmp_path, name, sign):
    assert cli("explain", "32x1x5x5", "-o", tmp_path / name).code == 0
    assert sign in (tmp_path / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("7",), "at least 2 axes"),
        (("32x1x5x5", "--mode", "fan_middle"), "fan_middle"),
        (("32x1x5x5", "--nonlinearity", "rleu"), "relu"),
        (("32x1x5x5", "-o", "a.pdf"), "end the name with one of"),
    ],
)
def test_misuse_is_exit_code_2(cli, arguments, message):
    ran = cli("explain", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_a_planned_parameter_is_explained_from_the_plan_file(cli, tmp_path):
    path = tmp_path / "plan.json"
    assert cli("plan", f"{NETS}:stack", "--input", "1x3x8x8", "-o", path).code == 0
    ran = cli("explain", "2.weight", "--plan", path)
    assert ran.code == 0, ran.err
    assert ran.out == f"{Plan.load(path).explain('2.weight')}\n"
    assert "Did you mean 2.weight" in cli("explain", "2.wieght", "--plan", path).err
