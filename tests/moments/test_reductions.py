"""Means and sums over any axes: places, channels and inputs obey different laws."""

import pytest
from torch import nn

import stepzero


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


def test_the_mean_of_one_normalised_map_is_nothing():
    """Squeeze-and-excite behind a batch norm that sees one input: rounding must not become a signal, to be divided by."""

    class Squeezed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.squeeze = nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.Conv2d(7, 5, 1)

        def forward(self, x):
            x = self.norm(self.conv(x))
            return x * self.squeeze(x.mean((2, 3), keepdim=True)).mean().sigmoid()

    made = stepzero.plan(Squeezed().train(), (1, 3, 13, 13))
    squeeze = next(e for e in made.entries if e.name == "squeeze.weight")
    assert squeeze.second_moment == 0.0
    assert squeeze.law.std == pytest.approx(7**-0.5)  # as for an input of second moment 1
