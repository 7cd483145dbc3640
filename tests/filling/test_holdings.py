"""Which elements of a tensor lie in this process, reckoned as torch shards them."""

import pytest
import torch
from torch.distributed.tensor import Partial, Replicate, Shard

from stepzero.errors import ApplyError
from stepzero.filling._holdings import holdings, is_distributed, positions


@pytest.mark.parametrize("size", [1, 5, 8, 9])
def test_a_sharded_axis_is_cut_as_torch_chunk_cuts_it(size):
    chunks = torch.arange(size).chunk(4)
    for rank in range(4):
        held, whole = positions("w", (size, 2), [Shard(0)], (4,), (rank,))
        assert [i for segment in held for i in segment] == (chunks[rank].tolist() if rank < len(chunks) else [])
        assert whole == [range(2)]


def test_the_second_mesh_axis_cuts_what_the_first_left():
    held = [positions("w", (8,), [Shard(0), Shard(0)], (2, 2), (a, b))[0] for a in range(2) for b in range(2)]
    assert [list(segment) for (segment,) in held] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_what_is_replicated_is_held_whole_and_partial_sums_have_no_values():
    assert positions("w", (3,), [Replicate()], (2,), (1,)) == [[range(3)]]
    with pytest.raises(ApplyError, match="no values of its own"):
        positions("w", (3,), [Partial()], (2,), (1,))


def test_a_plain_tensor_is_one_piece():
    tensor = torch.zeros(2, 3)
    (piece,) = holdings("w", tensor)
    assert piece.tensor is tensor
    assert piece.region.shape == (2, 3)
    assert not is_distributed(tensor)
