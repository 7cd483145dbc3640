import pytest

from stepzero.errors import SeedError
from stepzero.streams import key


@pytest.mark.parametrize("seed", [-1, 2**64, 0.0, "0", None, True])
def test_seeds_out_of_range_are_refused_by_value(seed):
    with pytest.raises(SeedError, match=r"Give .*0 ≤ seed < 2\^64"):
        key(seed, "weight")


def test_a_name_without_utf8_form_is_refused():
    with pytest.raises(SeedError, match="lone surrogate"):
        key(0, "\ud800")


@pytest.mark.parametrize("name", [5, None, b"weight", "weight\0re"])
def test_what_is_no_text_or_would_be_another_stream_of_the_name_is_refused(name):
    with pytest.raises(SeedError, match="is no name"):
        key(0, name)


def test_all_64_bits_of_the_seed_count():
    assert len({key(seed, "w") for seed in (1, 1 + 2**32, 1 + 2**63, 2**64 - 1)}) == 4


def test_names_purposes_and_seeds_have_keys_of_their_own():
    keys = [
        key(seed, name, use)
        for seed in (0, 1)
        for name in ("a", "b", "\u00e9", "e\u0301")
        for use in (None, "re", "im", "mask", "orth")
    ]
    assert len(set(keys)) == len(keys)


def test_numpy_integers_are_seeds():
    np = pytest.importorskip("numpy")
    assert key(np.uint64(2**64 - 1), "w") == key(2**64 - 1, "w")
