import subprocess
import sys

import pytest

import stepzero
from stepzero.cli._app import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example_that_names_it(cli, command):
    ran = cli(command, "--help")
    assert ran.code == 0
    assert "Examples" in ran.out
    assert f"stepzero {command} " in ran.out


def test_the_version_is_that_of_the_package(cli):
    assert cli("--version").out == f"stepzero {stepzero.__version__}\n"


def test_an_unknown_command_is_misuse(cli):
    ran = cli("bogus")
    assert ran.code == 2
    assert "No such command 'bogus'" in ran.err


def test_the_package_runs_as_a_module():
    run = subprocess.run(
        [sys.executable, "-m", "stepzero", "gain", "relu"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "1.4142136" in run.stdout


def test_without_typer_the_command_says_what_to_install():
    program = "import sys; sys.modules['typer'] = None; from stepzero.cli import main; sys.exit(main(['gain', 'relu']))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "pip install 'stepzero[cli]'" in run.stderr


def test_a_reader_that_leaves_early_causes_no_traceback():
    program = "from stepzero.cli import main; raise SystemExit(main(['fans', '32x1x5x5']))"
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stderr is not None
    run.stdout.close()
    stderr = run.stderr.read()
    run.stderr.close()
    assert run.wait() == 141
    assert stderr == ""


def test_a_terminal_that_cannot_show_a_sign_still_gets_the_table():
    command = [sys.executable, "-X", "utf8=0", "-m", "stepzero", "gain", "relu"]
    run = subprocess.run(command, capture_output=True, check=False, env={"PYTHONIOENCODING": "ascii"})
    assert run.returncode == 0, run.stderr
    assert b"gradient_gain" in run.stdout
