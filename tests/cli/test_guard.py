import pytest
import typer

from stepzero.cli._guard import guarded
from stepzero.errors import FanError


def failing(error):
    def command():
        raise error

    return guarded(command)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (FanError("no fan here.\nAnd a second line."), 2, "stepzero: no fan here. And a second line.\n"),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            2,
            "stepzero: this needs torch, which is not installed. Install it with: pip install 'stepzero[torch]'\n",
        ),
        (KeyboardInterrupt(), 130, "stepzero: interrupted; no file was left half-written.\n"),
    ],
)
def test_an_error_is_one_paragraph_and_an_exit_code(capsys, error, code, message):
    with pytest.raises(typer.Exit) as end:
        failing(error)()
    assert end.value.exit_code == code
    assert capsys.readouterr().err == message


def test_an_error_that_nobody_foresaw_names_its_kind_and_how_to_see_more(capsys, monkeypatch):
    monkeypatch.delenv("STEPZERO_TRACEBACK", raising=False)
    with pytest.raises(typer.Exit) as end:
        failing(ZeroDivisionError("division by zero"))()
    told = capsys.readouterr().err
    assert end.value.exit_code == 2
    assert told.startswith("stepzero: ZeroDivisionError: division by zero")
    assert "STEPZERO_TRACEBACK=1" in told
    assert "Traceback" not in told


def test_a_traceback_comes_when_it_is_asked_for(capsys, monkeypatch):
    monkeypatch.setenv("STEPZERO_TRACEBACK", "1")
    with pytest.raises(typer.Exit):
        failing(FanError("no fan"))()
    assert "Traceback" in capsys.readouterr().err


def test_an_exit_code_passes_through():
    with pytest.raises(typer.Exit) as end:
        failing(typer.Exit(1))()
    assert end.value.exit_code == 1
