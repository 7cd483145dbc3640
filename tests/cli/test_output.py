import pytest

from stepzero.cli._output import refuse_to_replace, remark, show_json
from stepzero.errors import FileError


def test_a_place_that_is_free_or_given_up_is_fine(tmp_path):
    (tmp_path / "taken").touch()
    refuse_to_replace(None, overwrite=False)
    refuse_to_replace(tmp_path / "free", overwrite=False)
    refuse_to_replace(tmp_path / "taken", overwrite=True)


def test_a_place_that_is_taken_or_nowhere_is_refused_before_any_work(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(FileError, match="--overwrite"):
        refuse_to_replace(tmp_path / "taken", overwrite=False)
    with pytest.raises(FileError, match="is not a folder"):
        refuse_to_replace(tmp_path / "no" / "place", overwrite=True)


def test_json_ends_with_one_newline_and_remarks_stay_out_of_pipes(capsys):
    show_json({"gain": 1.5})
    remark("wrote something")
    assert capsys.readouterr() == ('{"gain": 1.5}\n', "")
