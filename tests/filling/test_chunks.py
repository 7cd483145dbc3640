"""Chunks come in order, a bounded number ahead of whoever takes them."""

import threading

import pytest

from stepzero.filling._chunks import in_order


def chunk(number):
    return memoryview(bytes([number]))


def test_results_come_in_the_order_of_the_jobs_whoever_is_done_first():
    second_done = threading.Event()

    def slow():
        assert second_done.wait(10)
        return chunk(0)

    def fast():
        second_done.set()
        return chunk(1)

    assert [bytes(c) for c in in_order([slow, fast, lambda: chunk(2)], threads=2)] == [b"\0", b"\1", b"\2"]


def test_no_more_jobs_are_begun_than_the_lead_allows():
    asked = []

    def jobs():
        for number in range(100):
            asked.append(number)
            yield lambda number=number: chunk(number)

    chunks = in_order(jobs(), threads=1)
    next(chunks)
    assert len(asked) == 3  # two chunks for each thread wait, one was taken
    chunks.close()
    assert len(asked) == 3


def test_what_goes_wrong_in_a_thread_is_raised_to_the_taker():
    def broken():
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(in_order([lambda: chunk(0), broken], threads=2))
