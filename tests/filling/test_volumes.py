import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepzero.errors import FileError
from stepzero.filling._container import Spec
from stepzero.filling._volumes import bytes_of, index, split

specs = st.lists(st.integers(0, 50), min_size=1, max_size=20).map(
    lambda sizes: [Spec(f"w{i}", (size,), "float32") for i, size in enumerate(sizes)]
)


@pytest.mark.parametrize(
    ("size", "bytes_"),
    [(5, 5), ("7", 7), ("5GB", 5 * 10**9), ("1.5 MB", 1_500_000), ("4GiB", 4 * 2**30), ("2kib", 2048), (" 3 B ", 3)],
)
def test_sizes_are_read_in_powers_of_ten_and_of_two(size, bytes_):
    assert bytes_of(size) == bytes_


@pytest.mark.parametrize("size", [0, -1, "", "GB", "five", "5 XB", "0.1", True, None])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(FileError, match="no size of a file"):
        bytes_of(size)


@given(specs, st.integers(1, 400))
def test_every_tensor_is_in_one_shard_and_a_shard_is_over_the_limit_only_with_a_single_tensor(found, limit):
    volumes = split(found, limit)
    assert sorted(spec.name for volume in volumes for spec in volume.specs) == sorted(spec.name for spec in found)
    for volume in volumes:
        assert volume.nbytes <= limit or sum(spec.nbytes > 0 for spec in volume.specs) == 1
    weight_map = json.loads(index(volumes))["weight_map"]
    assert weight_map == {spec.name: volume.name for volume in volumes for spec in volume.specs}


def test_a_single_shard_has_no_number():
    assert [volume.name for volume in split([Spec("w", (3,), "float32")], 100)] == ["model.safetensors"]
