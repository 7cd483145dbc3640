import os
import stat

import pytest

from stepzero.errors import FileError
from stepzero.reporting import read_text, write_text


def test_what_is_written_is_read(tmp_path):
    path = write_text(tmp_path / "a.txt", "σ²\n")
    assert read_text(path) == "σ²\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = write_text(tmp_path / "a.txt", "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"a\.txt cannot be written: No space left on device"):
        write_text(path, "new", overwrite=True)
    assert read_text(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = write_text(tmp_path / "a.txt", "old")

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new", overwrite=True)
    assert read_text(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    target = write_text(tmp_path / "target.txt", "old")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    write_text(link, "new", overwrite=True)
    assert link.is_symlink()
    assert read_text(target) == "new"


def test_the_file_gets_the_permissions_that_any_new_file_gets(tmp_path):
    (tmp_path / "plain").write_text("x")
    written = write_text(tmp_path / "a.txt", "x")
    assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("name", ["missing/a.txt", "."])
def test_a_place_that_cannot_be_written_is_one_clear_error(name, tmp_path):
    with pytest.raises(FileError, match="cannot be written"):
        write_text(tmp_path / name, "x", overwrite=True)


def test_a_file_that_is_missing_or_binary_is_one_clear_error(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match=r"missing\.json cannot be read: No such file"):
        read_text(tmp_path / "missing.json")
    with pytest.raises(FileError, match="is not a text file"):
        read_text(tmp_path / "binary")
