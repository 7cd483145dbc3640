"""`python -m stepzero` is the command line, exit code and all."""

from __future__ import annotations

import runpy
import sys

import pytest


@pytest.mark.parametrize(("arguments", "code"), [(["gain", "relu"], 0), (["gain", "nonsense"], 2)])
def test_the_module_runs_the_command_line_and_leaves_with_its_code(monkeypatch, capsys, arguments, code):
    monkeypatch.setattr(sys, "argv", ["stepzero", *arguments])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("stepzero", run_name="__main__")
    assert left.value.code == code
    told = capsys.readouterr()
    assert ("1.4142136" in told.out) == (code == 0)
    assert ("nonsense" in told.err) == (code == 2)
