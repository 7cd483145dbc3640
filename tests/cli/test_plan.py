import math
from pathlib import Path

import pytest

from stepzero import Plan

NETS = Path(__file__).with_name("nets.py")
INPUT = ("--input", "1x3x8x8")


def test_a_circular_relu_stack_is_planned_as_kaiming_says(cli):
    ran = cli("plan", f"{NETS}:stack", *INPUT, "--json")
    assert ran.code == 0, ran.err
    std = ran.data["parameters"]["2.weight"]["law"]["std"]
    assert std == pytest.approx(math.sqrt(2 / (9 * 16)), rel=1e-6)


def test_arguments_reach_the_factory(cli):
    parameters = cli("plan", f"{NETS}:stack", *INPUT, "--arg", "width=24", "--arg", "act=gelu", "--json").data[
        "parameters"
    ]
    assert parameters["2.weight"]["shape"] == [24, 24, 3, 3]
    assert parameters["2.weight"]["gain"] == pytest.approx(1.5335304, rel=1e-6)  # stepzero gain gelu


def test_the_table_names_every_weight_and_the_model(cli):
    ran = cli("plan", f"{NETS}:stack", *INPUT)
    assert f"Plan for {NETS}:stack" in ran.out
    assert all(f"{at}.weight" in ran.out for at in (0, 2, 4))
    assert ran.err == ""


def test_the_authors_own_laws_need_no_inputs_and_tell_their_lines(cli):
    own = cli("plan", f"{NETS}:Lookup", "--goal", "own", "--json").data
    assert own["goal"] == "own"
    assert own["parameters"]["table.weight"]["law"] == {"law": "normal", "mean": 0.0, "std": 3.0}
    assert "nets.py:" in own["parameters"]["table.weight"]["reasons"][-1]
    predicted = cli("plan", f"{NETS}:Lookup", "--goal", "own", "--input", "64x4:int64", "--json").data["parameters"]
    assert predicted["read.weight"]["second_moment"] == pytest.approx(9 / 3 + 1 / 48, rel=1e-6)  # U(±1/√16), bias too


def test_all_shows_biases_and_reasons(cli):
    short, full = cli("plan", f"{NETS}:stack", *INPUT).out, cli("plan", f"{NETS}:stack", *INPUT, "--all").out
    assert "eq. 8 of He et al. 2015" not in short
    assert "eq. 8 of He et al. 2015" in full


def test_the_plan_file_holds_the_plan_that_is_shown(cli, tmp_path):
    path = tmp_path / "plan.json"
    shown = cli("plan", f"{NETS}:stack", *INPUT, "-o", path, "--json").data
    assert Plan.load(path).to_dict() == Plan.from_dict(shown).to_dict()


@pytest.mark.parametrize(("name", "start"), [("plan.md", "## Plan for"), ("plan.html", "<!doctype html>")])
def test_the_end_of_the_name_decides_the_form(cli, tmp_path, name, start):
    assert cli("plan", f"{NETS}:stack", *INPUT, "-o", tmp_path / name).code == 0
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)


def test_a_file_that_stands_there_is_replaced_only_when_asked(cli, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text("mine")
    refused = cli("plan", f"{NETS}:stack", *INPUT, "-o", path)
    assert (refused.code, refused.out, path.read_text()) == (2, "", "mine")
    assert "--overwrite" in refused.err
    assert cli("plan", f"{NETS}:stack", *INPUT, "-o", path, "--overwrite").code == 0
    assert len(Plan.load(path)) == 6


def test_overrides_decide_first_match_first(cli):
    overrides = ("--override", "2.weight=normal:std=0.5", "--override", "*.weight=kaiming_normal")
    laws = {
        name: entry["law"]
        for name, entry in cli("plan", f"{NETS}:stack", *INPUT, *overrides, "--json").data["parameters"].items()
    }
    assert laws["2.weight"] == {"law": "normal", "std": 0.5, "mean": 0.0}
    assert laws["4.weight"]["std"] == pytest.approx(math.sqrt(2 / (9 * 16)), rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((f"{NETS}:stack",), "--goal own"),
        ((f"{NETS}:stak", *INPUT), "stack"),
        ((f"{NETS}:failing", *INPUT), "no such dataset"),
        ((f"{NETS}:weightless", *INPUT), "has no parameters"),
        (("missing.py:net", *INPUT), r"missing.py"),
        (("torchvision:vgg61", *INPUT), "vgg16"),
        ((f"{NETS}:stack", "--input", "1x3x8by8"), "1x3x8by8"),
        ((f"{NETS}:stack", "--input", "1x4x8x8"), "4"),
        ((f"{NETS}:stack", *INPUT, "--arg", "width"), "is not of the form key=value"),
        ((f"{NETS}:stack", *INPUT, "--arg", "widht=3"), "widht"),
        ((f"{NETS}:stack", *INPUT, "--goal", "sideways"), "sideways"),
        ((f"{NETS}:stack", *INPUT, "--override", "9.*=xavier_normal"), "matches none"),
        ((f"{NETS}:stack", *INPUT, "--override", "*=xavier_normla"), "xavier_normal"),
        ((f"{NETS}:stack", *INPUT, "-o", "plan.txt"), "end the name with one of"),
        ((f"{NETS}:stack", *INPUT, "-o", "no/such/folder/plan.json"), "is not a folder"),
    ],
)
def test_misuse_is_exit_code_2_one_paragraph_and_no_file(cli, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = cli("plan", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert list(tmp_path.iterdir()) == []
