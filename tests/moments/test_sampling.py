"""Values read between the places of a map, and gradients of the places."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.moments import propagate
from stepzero.network import capture

ALIKE = (0.4, 1.4, 0.6, 0.6, 0.5, 0.4)


class Read(nn.Module):
    def __init__(self, mode="bilinear", dims=2):
        super().__init__()
        self.mode, self.dims = mode, dims

    def forward(self, x):
        grid = 1.5 * torch.rand(len(x), *[4] * self.dims, self.dims, dtype=x.dtype) - 0.75
        return F.grid_sample(x, grid, mode=self.mode, align_corners=False)


@pytest.mark.parametrize(("mode", "dims"), [("bilinear", 2), ("nearest", 2), ("bilinear", 3)])
def test_values_between_the_places_of_a_map(hold, mode, dims):
    loose = dict.fromkeys(("near", "elsewhere", "across", "apart"), 0.06)  # samples are few places apart
    shape = (3, 8, *([12] * dims if dims == 2 else [8] * dims))
    hold(Read(mode, dims), shape, moments=ALIKE, draws=60, loose=loose, loose_change=loose)


def test_where_to_read_hears_the_difference_of_neighbours():
    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.offsets = nn.Linear(16, 2, bias=False)

        def forward(self, x, z):
            base = 1.2 * torch.rand(len(x), 5, 5, 2) - 0.6
            return F.grid_sample(x, base + 0.01 * self.offsets(z), align_corners=False)

    model, shapes = Placed(), ((16, 8, 12, 10), (16, 5, 5, 16))
    graph = capture(model, tuple(torch.zeros(s) for s in shapes))
    law = torch.zeros((), dtype=torch.float64), torch.tensor(1 / 16, dtype=torch.float64)
    (predicted,) = propagate(graph, {}, {"offsets.weight": law}, on_unknown="error").gradients().values()
    torch.manual_seed(5)
    found = []
    for _ in range(30):
        nn.init.normal_(model.offsets.weight, 0.0, 0.25)
        kept = []
        hook = model.offsets.register_forward_hook(lambda _m, _i, y, kept=kept: kept.append(y))
        y = model(*(torch.randn(s) for s in shapes))
        hook.remove()
        found.append(torch.autograd.grad(y, kept, torch.randn_like(y))[0].square().mean())
    measured = torch.stack(found)
    assert abs(float(measured.mean()) - predicted) < 5 * float(measured.std()) / 30**0.5 + 0.02 * predicted
