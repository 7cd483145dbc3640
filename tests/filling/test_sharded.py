"""Real processes, gloo on 127.0.0.1: what each rank writes is its part of what one process writes, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed.tensor.placement_types import Partial, Replicate, Shard, _StridedShard

from stepzero.errors import ApplyError
from stepzero.filling._holdings import positions

WORKER = Path(__file__).with_name("sharded_worker.py")
CASES = 400


def run_world(world, cases, store):
    """Start `world` ranks and return what each of them reports."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), str(world), str(store), str(cases)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        outputs = [rank.communicate(timeout=300) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    for rank, (_, errors) in zip(ranks, outputs, strict=True):
        assert rank.returncode == 0, errors[-2000:]
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


@pytest.mark.skipif(not Path("/sys/class/net/lo").exists(), reason="gloo is told to use the interface lo")
def test_shards_on_four_processes_equal_the_single_process(tmp_path):
    """400 generated cases on meshes of 1 to 4 ranks, then FSDP2, HSDP, offload, TP and FSDP over TP; 8: benchmarks/sharded.py."""
    reports = run_world(4, CASES, tmp_path / "store")
    assert [report["failures"] for report in reports] == [[]] * 4


def torchs(shape, placements, mesh, coordinate):
    """Return the global indices that torch's own splitting gives to a coordinate."""
    held = torch.arange(torch.Size(shape).numel()).reshape(shape)
    for placement, ranks, rank in zip(placements, mesh, coordinate, strict=True):
        if not isinstance(placement, Replicate):
            held = placement._split_tensor(held, ranks, with_padding=False)[0][rank]
    return held


@pytest.mark.parametrize("size", [0, 1, 2, 5, 7, 8, 12, 13])
@pytest.mark.parametrize("mesh", [(1, 1), (2, 1), (2, 2), (2, 3), (3, 2), (4, 2), (2, 4), (1, 8)])
@pytest.mark.parametrize(
    "placements",
    [
        (Shard(0), Shard(0)),
        (Shard(0), Shard(1)),
        (Shard(1), Replicate()),
        (_StridedShard(0, split_factor=2), Shard(0)),
        (_StridedShard(0, split_factor=3), Shard(1)),
        (Shard(0), _StridedShard(0, split_factor=2)),
    ],
    ids=str,
)
def test_positions_are_those_of_torchs_own_splitting_on_every_rank(size, mesh, placements):
    shape = (size, 6)
    for first in range(mesh[0]):
        for second in range(mesh[1]):
            rows, columns = positions("w", shape, placements, mesh, (first, second))
            ours = torch.tensor(
                [[row * 6 + column for span in columns for column in span] for span in rows for row in span]
            )
            theirs = torchs(shape, placements, mesh, (first, second))
            assert ours.flatten().tolist() == theirs.flatten().tolist()


def test_placements_without_values_of_their_own_are_refused():
    with pytest.raises(ApplyError, match=r"w: placement Partial.* Redistribute the tensor first"):
        positions("w", (4, 4), (Partial(),), (2,), (0,))
