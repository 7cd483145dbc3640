"""The process is left as it was."""

import gc

import pytest

from stepzero.network import collector_paused


@pytest.mark.parametrize("running", [True, False])
def test_the_garbage_collector_pauses_and_is_left_as_it_was(running):
    before = gc.isenabled()
    try:
        (gc.enable if running else gc.disable)()
        with collector_paused():
            assert not gc.isenabled()
        assert gc.isenabled() == running
    finally:
        (gc.enable if before else gc.disable)()


def test_the_garbage_collector_runs_again_after_an_error():
    assert gc.isenabled()
    with pytest.raises(ValueError, match="stop"), collector_paused():
        raise ValueError("stop")
    assert gc.isenabled()
