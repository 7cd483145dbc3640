from pathlib import Path

import pytest

from stepzero.checking import LINTS

NETS = Path(__file__).with_name("nets.py")


def test_findings_are_told_rule_by_rule_and_warnings_leave_the_exit_code_at_0(cli):
    ran = cli("lint", f"{NETS}:Lookup", "--input", "1x8:int64")
    assert ran.code == 0, ran.err
    assert "Lint of Lookup: pass" in ran.out
    assert "- table.weight: row 0 stands for padding" in ran.out


def test_an_error_is_exit_code_1_and_json_holds_every_finding(cli):
    ran = cli("lint", f"{NETS}:Unwritten", "--json")
    assert ran.code == 1
    assert ran.data["ok"] is False
    assert [f["where"] for f in ran.data["findings"] if f["rule"] == "unwritten"] == ["scale"]


def test_rules_can_be_chosen_and_left_out(cli):
    assert cli("lint", f"{NETS}:Unwritten", "--rule", "copies").code == 0
    assert cli("lint", f"{NETS}:Unwritten", "--ignore", "unwritten:scale").code == 0
    assert cli("lint", f"{NETS}:Unwritten", "--rule", "copies", "--json").data["rules"] == ["copies"]


def test_a_file_of_weights_is_judged_by_its_values(cli, tmp_path):
    path = tmp_path / "normed.safetensors"
    normed = (f"{NETS}:normed", "--input", "4x3x8x8")
    assert cli("init", *normed, "-o", path, "--no-check").code == 0
    assert cli("lint", f"{NETS}:normed", "--weights", path).code == 0


def test_the_rules_are_listed_with_their_sources(cli):
    ran = cli("lint", "--list")
    assert ran.code == 0
    assert all(name in ran.out and rule.source in ran.out for name, rule in LINTS.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rule", "copy", f"{NETS}:stack"], "there is no lint rule 'copy'. Known are"),
        (["--ignore", "nothing", f"{NETS}:stack"], "there is no lint rule 'nothing'"),
        ([], "give a model, or --list"),
        ([f"{NETS}:stack", "--input", "1x4x8x8"], "input"),
    ],
)
def test_misuse_is_exit_code_2_and_says_what_is_known(cli, arguments, message):
    ran = cli("lint", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
