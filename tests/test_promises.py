"""What the package promises as a whole: its public names, light imports, rooms in order, a README that runs."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import stepzero
from stepzero.cli import main

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "stepzero"
FRAMEWORKS = ("torch", "jax", "numba", "tensorflow", "keras", "transformers", "rich", "typer")
LIGHT_ROOMS = ("errors", "reporting", "theory", "laws", "streams")


def names_for_type_checkers() -> set[str]:
    """Return what the TYPE_CHECKING block of the front desk imports."""
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {alias.asname or "" for line in block.body if isinstance(line, ast.ImportFrom) for alias in line.names}


def loaded_after(statement: str) -> set[str]:
    """Return which frameworks a fresh interpreter has loaded after a statement."""
    program = f"import sys\n{statement}\nprint(*({FRAMEWORKS!r} & sys.modules.keys()))"
    program = program.replace(repr(FRAMEWORKS), repr(set(FRAMEWORKS)))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.mark.parametrize("name", stepzero.__all__)
def test_every_public_name_resolves_and_is_listed_by_dir(name):
    assert getattr(stepzero, name) is not None
    assert name in dir(stepzero)


def test_type_checkers_see_the_names_that_users_see():
    assert names_for_type_checkers() == set(stepzero.__all__)


def test_the_table_of_names_has_no_duplicates_and_errors_are_all_offered():
    from stepzero import errors

    assert len(set(stepzero.__all__)) == len(stepzero.__all__)
    defined = {name for name, thing in vars(errors).items() if isinstance(thing, type)}
    assert defined == set(errors.__all__)


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match=r"'stepzero' has no attribute 'kaming'"):
        stepzero.kaming  # noqa: B018 -- the look-up is the test


def test_without_torch_the_error_says_what_to_install():
    program = "import sys; sys.modules['torch'] = None; import stepzero; stepzero.gain('relu'); stepzero.plan"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "stepzero.plan needs torch, which is not installed. Run: pip install 'stepzero[torch]'" in run.stderr


def test_importing_the_package_loads_no_framework():
    assert loaded_after("import stepzero") == set()


@pytest.mark.parametrize("room", [room for room in LIGHT_ROOMS if list(SOURCE.glob(f"{room}*"))])
def test_light_rooms_load_no_framework(room):
    assert loaded_after(f"import stepzero.{room}") == set()


def test_the_probe_for_frameworks_sees_a_framework_that_is_loaded():
    assert loaded_after("import rich") == {"rich"}


def test_rooms_import_downward():
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command is not None, "import-linter is part of the dev extra: make env"
    run = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_room_file_is_underscored_and_every_room_lists_what_it_offers():
    rooms = [folder for folder in SOURCE.iterdir() if folder.is_dir() and any(folder.glob("*.py"))]
    stray = [file.name for room in rooms for file in room.glob("*.py") if not file.name.startswith("_")]
    assert [room.name for room in rooms if not (room / "__init__.py").exists()] == []
    assert [name for name in stray if name != "__main__.py"] == []


def readme_commands() -> list[list[str]]:
    """Return the commands that the README shows after a prompt."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [shlex.split(line) for line in re.findall(r"^    \$ (.+)$", text, re.MULTILINE)]


def readme_programs() -> list[str]:
    """Return the Python programs in the README."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_commands_of_the_readme_run_in_their_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    commands = readme_commands()
    assert {command[0] for command in commands} == {"stepzero"}
    for command in commands:
        assert main(command[1:]) == 0, (command, capsys.readouterr())
    assert (tmp_path / "vgg16.safetensors").stat().st_size > 500e6
    (tmp_path / "vgg16.safetensors").unlink()  # half a gigabyte


@pytest.mark.parametrize("program", readme_programs())
def test_the_programs_of_the_readme_run(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {})


def test_the_numbers_of_the_readme_are_those_that_it_shows():
    assert f"{stepzero.gain('gelu'):.10f}" == "1.5335304412"
    assert repr(stepzero.fans((32, 1, 5, 5))) == "Fans(fan_in=25, fan_out=800)"
    assert repr(stepzero.Kaiming(distribution="normal").law(stepzero.fans((32, 1, 5, 5)))) == "Normal(std=0.282843)"


EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LAUNCHED = [example for example in EXAMPLES if "torchrun" in example.read_text(encoding="utf-8")]


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e not in LAUNCHED], ids=lambda path: path.name)
def test_the_examples_run(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(example), run_name="__main__")


@pytest.mark.parametrize("example", LAUNCHED, ids=lambda path: path.name)
def test_the_examples_for_many_processes_run_in_two(example, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(example)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
