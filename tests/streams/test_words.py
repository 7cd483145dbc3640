import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stepzero import streams
from stepzero.streams._words import philox4x32


def test_philox_gives_the_known_answers_of_its_authors(vectors):
    for case in vectors["philox4x32_10"]:
        counter = [np.array([int(word, 16)], np.uint64) for word in case["counter"]]
        out = philox4x32(*counter, *(int(word, 16) for word in case["key"]))
        assert [f"{int(word[0]):08x}" for word in out] == case["out"]


def test_keys_and_words_are_those_of_the_specification(vectors):
    for case in vectors["streams"]:
        key = streams.key(case["seed"], case["name"])
        assert [f"{word:08x}" for word in key] == case["key_k0_k1_c2_c3"]
        found = streams.words(key, np.array(case["index"], np.uint64), 1).ravel()
        assert [f"{word:08x}" for word in found] == case["word"]


@given(start=st.integers(0, 2**64 - 200), width=st.integers(1, 50), at=st.integers(0, 49))
def test_a_word_depends_on_its_index_alone(start, width, at):
    key = streams.key(7, "w")
    run = streams.words(key, np.array([start], np.uint64), width)
    alone = streams.words(key, np.array([start + at % width], np.uint64), 1)
    assert run[0, at % width] == alone[0, 0]
