"""Alike channels are computed once, and large maps are let go: neither changes a prediction."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stepzero.moments import Moments, Signal, _channels, _propagate, propagate
from stepzero.moments import _roles as R
from stepzero.network import capture


class Dense(nn.Module):
    """Two dense layers: each reads all that was made before it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(16 + 8 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(16 + 8 * i, 8, 3, padding=1) for i in range(3))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(F.gelu(norm(x)))], 1)
        return x.mean((2, 3))


def prediction():
    torch.manual_seed(0)
    graph = capture(Dense().train(), (4, 3, 16, 16))
    zero, some, one = (torch.tensor(v).double() for v in (0.0, 0.02, 1.0))
    laws = {n: (zero, some) if graph.values[v].shape[1:] else ((one, one) if "norm" in n and n.endswith("weight") else (zero, zero))
            for n, v in graph.parameters.items()}  # fmt: skip
    flow = propagate(graph, {}, laws, on_unknown="error")
    return [flow.second(node.outputs[0]) for node in graph.nodes if node.outputs[0] in flow.signals], list(
        flow.gradients().values()
    )


def test_blocks_of_alike_channels_are_computed_once_with_the_same_result(monkeypatch):
    once = prediction()
    monkeypatch.setattr(_channels, "FEW_CHANNELS", 10**9)
    each = prediction()
    assert once[0] == pytest.approx(each[0], rel=1e-10)
    assert once[1] == pytest.approx(each[1], rel=1e-10)


def test_maps_that_are_let_go_keep_their_averages(monkeypatch):
    kept = prediction()
    monkeypatch.setattr(_propagate, "LARGE", 4)
    let_go = prediction()
    assert let_go[0] == pytest.approx(kept[0], rel=1e-10)
    assert let_go[1] == pytest.approx(kept[1], rel=1e-10)


@given(st.lists(st.tuples(st.integers(4, 9), st.integers(0, 2)), min_size=2, max_size=6))
def test_runs_of_equal_channels_are_gathered_and_put_back(runs):
    values = torch.tensor([float(v) for n, v in runs for _ in range(n)], dtype=torch.float64).reshape(1, -1, 1)
    shape = (2, values.numel(), 4)
    place, lean = torch.arange(4.0, dtype=torch.float64).reshape(1, 1, 4), torch.ones(1, 1, 1, dtype=torch.float64)
    m = Moments(lean, values + place, values, lean, place, values * place)
    first, group = _channels.runs_of(Signal(shape, R.guess(shape), m))
    changes = 1 + int((values[:, 1:] != values[:, :-1]).sum())
    if first is None:  # one run only: nothing varies along the channels, or too few channels
        assert changes == 1 or values.numel() < _channels.FEW_CHANNELS
        return
    few = _channels.one_of_each(Signal(shape, R.guess(shape), m, m), first, group)
    assert few.shape == (2, changes, 4)
    for back in (few.moments, few.tangent):
        for before, after in zip(m, _channels.spread(back, group), strict=True):
            assert torch.allclose(before.expand(shape), after.expand(shape))
