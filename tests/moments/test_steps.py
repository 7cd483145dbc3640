"""Functions that jump, and coins tossed by a floor."""

import pytest
import torch
from torch import nn

SHIFTED = (0.6, 1.5, 0.8, 0.8, 0.7, 0.5)


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *xs):
        return self.function(*xs)


@pytest.mark.parametrize(
    "function",
    [torch.floor, torch.ceil, torch.round, torch.trunc, lambda x: 3 * torch.frac(x), lambda x: x.remainder(0.7), lambda x: x.fmod(1.3)],
)  # fmt: skip
def test_a_function_that_jumps(hold, function):
    class Moved(nn.Module):
        def forward(self, x):
            return function(x * 1.7)

    hold(Moved(), (3, 16, 30), moments=SHIFTED, draws=60, loose_change=dict.fromkeys(("second", "mean"), 0.0))


def test_the_floor_of_a_number_and_noise_is_a_coin(hold):
    def drop_path(x):
        keep = 0.8
        return x.div(keep) * (keep + torch.rand((len(x), 1, 1), dtype=x.dtype)).floor_()

    hold(Of(drop_path), (8, 16, 6), moments=SHIFTED, draws=300)
