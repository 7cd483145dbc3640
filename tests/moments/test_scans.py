"""Running sums."""

import torch
from torch import nn


class Running(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        return torch.cumsum(x, self.dim)


def test_a_running_sum_over_places(hold):
    loose = {"near": 0.12}  # the map's average counts the last place, which has no next one
    hold(Running(2), (2, 6, 12), draws=80, loose=loose, loose_change=loose)


def test_a_running_sum_over_channels(hold):
    hold(Running(1), (2, 12, 5), draws=80)
