import threading

import numpy as np
import pytest

from stepzero import streams
from stepzero.errors import LawError
from stepzero.laws import Normal
from stepzero.streams import _engine


def test_without_numba_numpy_draws_and_asking_for_numba_says_what_to_install(monkeypatch):
    monkeypatch.setattr(_engine, "numba_available", lambda: False)
    monkeypatch.delitem(_engine.sys.modules, "stepzero.streams._numba", raising=False)
    assert streams.engine("auto", 2**40).name == "numpy"
    with pytest.raises(LawError, match=r"pip install 'stepzero\[fast\]'"):
        streams.engine("numba")


def test_small_arrays_do_not_load_a_compiler(monkeypatch):
    monkeypatch.delitem(_engine.sys.modules, "stepzero.streams._numba", raising=False)
    assert streams.engine("auto", 1000).name == "numpy"


def test_compiled_kernels_are_used_once_they_are_loaded():
    pytest.importorskip("numba")
    assert streams.engine("numba").name == "numba"
    assert streams.engine("auto", 1).name == "numba"


def test_work_is_spread_over_threads_and_an_error_in_one_comes_back():
    seen, meeting = set(), threading.Barrier(2, timeout=30)

    def work(job):
        seen.add(threading.get_ident())
        meeting.wait()  # two jobs at once, or a broken barrier
        if job == 1:
            raise KeyError(job)

    with pytest.raises(KeyError):
        _engine.spread(work, [0, 1], 2)
    assert len(seen) == 2


def test_bfloat16_rounds_ties_to_even(engine):
    bits = np.array([0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0xBF818000, 0x00008000], np.uint32)
    out = np.empty(bits.size, np.uint16)
    streams.engine(engine).bfloat16(bits.view(np.float32), out)
    assert [hex(word) for word in out] == ["0x3f80", "0x3f80", "0x3f82", "0x3f81", "0xbf82", "0x0"]


@pytest.mark.parametrize("width", [1, 3, 31, 32, 1021, 5000])
def test_runs_of_any_length_and_start_are_those_of_the_reference(width):
    pytest.importorskip("numba")
    whole = streams.draw(Normal(1.0), (40_000,), 0, "w", engine="numpy")
    for start in (0, 1, 2, 3, 7, 1023):
        part = np.empty(width, np.float32)
        streams.fill(part, Normal(1.0), 0, "w", streams.Region((40_000,))[start : start + width], engine="numba")
        np.testing.assert_array_equal(part, whole[start : start + width])
