"""Means and sums over any axes: places, channels and inputs obey different laws."""

import pytest
from torch import nn


class Reduced(nn.Module):
    def __init__(self, name, dims, keepdim):
        super().__init__()
        self.name, self.dims, self.keepdim = name, dims, keepdim

    def forward(self, x):
        return getattr(x, self.name)(self.dims, keepdim=self.keepdim)


@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("dims", [(2, 3), (1,), (3,), (0,), (1, 2, 3), (0, 2)])
@pytest.mark.parametrize("name", ["mean", "sum"])
def test_reductions_over_any_axes(hold, name, dims, keepdim):
    near = {"near": 0.05}
    hold(Reduced(name, dims, keepdim), (4, 8, 5, 6), draws=120, loose=near, loose_change=near)


def test_the_mean_of_everything(hold):
    class Whole(nn.Module):
        def forward(self, x):
            return x.mean()

    hold(Whole(), (3, 4, 4, 4), draws=300)
