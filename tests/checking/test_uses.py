"""How weights are used: by their modules, by a Sequential's neighbours, and by the graph."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stepzero.checking._stock import take_stock
from stepzero.checking._uses import torch_fans, uses_of_modules


def test_torch_reads_fans_from_the_shape_alone():
    assert torch_fans((512, 1, 3, 3)) == (9, 4608)
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(torch.empty(6, 4, 5))
    assert torch_fans((6, 4, 5)) == (fan_in, fan_out)


def test_modules_tell_true_fans_parts_and_layout():
    net = nn.ModuleDict(
        {"q": nn.MultiheadAttention(16, 2), "up": nn.ConvTranspose2d(8, 4, 4, 2), "cell": nn.GRU(8, 16)}
    )
    uses = uses_of_modules(net)
    assert (uses["q.in_proj_weight"].parts, uses["q.in_proj_weight"].fans.fan_out) == (3, 16)
    assert (uses["up.weight"].transposed, uses["up.weight"].fans.fan_in) == (True, 32)
    assert (uses["cell.weight_hh_l0"].parts, uses["cell.weight_hh_l0"].fans.fan_in) == (3, 16)
    assert all(use.before is None and use.normalised is None for use in uses.values())


def test_a_sequential_tells_what_comes_before_and_behind():
    net = nn.Sequential(
        nn.Linear(8, 8),
        nn.Sequential(nn.GELU(), nn.Dropout()),
        nn.Linear(8, 8),
        nn.BatchNorm1d(8),
        nn.Linear(8, 8),
        nn.Tanh(),
    )
    uses = uses_of_modules(net)
    assert (uses["0.weight"].before, uses["0.weight"].normalised) == (None, False)
    assert (uses["2.weight"].before, uses["2.weight"].normalised) == ("gelu", True)
    assert uses["2.weight"].gain == pytest.approx(1.5335304412)
    assert (uses["4.weight"].before, uses["4.weight"].normalised) == ("", False)


class Block(nn.Module):
    """Functions instead of modules, and a weight that is stored [in, out]."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)
        self.second = nn.Parameter(torch.ones(8, 4))

    def forward(self, x):
        return torch.relu(self.norm(nn.functional.dropout(self.first(x)))) @ self.second


def test_the_graph_tells_what_modules_do_not():
    assert "second" not in take_stock(Block).uses
    uses = take_stock(Block, (2, 8)).uses
    assert uses["first.weight"].normalised is True
    assert (uses["second"].before, uses["second"].input_first, uses["second"].normalised) == ("relu", True, False)
    assert tuple(uses["second"].fans) == (8, 4)


class Relative(nn.Module):
    """Queries times a table of relative positions [positions, width], which is read transposed (BoTNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(5, 8))

    def forward(self, x):
        return x @ self.table.transpose(-1, -2)


def test_a_weight_that_is_read_transposed_is_stored_output_first():
    use = take_stock(Relative, (2, 8)).uses["table"]
    assert use.input_first is False
    assert tuple(use.fans) == (8, 5)
