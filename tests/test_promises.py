"""What the package promises as a whole: its public names, light imports, rooms in order, a README that runs."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import stepzero

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
