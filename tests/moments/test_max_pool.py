"""Max pooling, alone and jointly with the activation before it."""

import math

import pytest
import torch
from torch import nn

POOLS = {
    "2×2": (nn.MaxPool2d(2), (3, 8, 8, 6)),
    "3×3, overlapping": (nn.MaxPool2d(3, 2, 1), (3, 8, 9, 8)),
    "ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), (3, 8, 8, 8)),
    "dilated": (nn.MaxPool2d(2, 1, dilation=2), (3, 8, 6, 6)),
    "one-dimensional": (nn.MaxPool1d(4), (3, 8, 24)),
    "three-dimensional": (nn.MaxPool3d(2), (2, 6, 4, 4, 4)),
}
CENTRED = (0.0, 1.3, 0.5, 0.5, 0.3, 0.2)
# Windows as equally correlated sets: the second moment is exact, pairs of windows are to first order in what they share.
PAIRS = {"near": 0.2, "elsewhere": 0.06, "across": 0.08, "apart": 0.06}
CHANGES = {"near": 0.3, "elsewhere": 0.15, "across": 0.3, "apart": 0.1}


@pytest.mark.parametrize("name", POOLS)
def test_the_largest_of_a_window(hold, name):
    module, shape = POOLS[name]
    hold(module, shape, moments=CENTRED, draws=120, loose=PAIRS, loose_change=CHANGES)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.2), nn.Tanh()])
def test_an_activation_before_it_is_one_rule_with_it(hold, activation):
    """P(max > 0) is 0.94 for four independent values, not ½: the product of two rules would halve the gradient."""
    module = nn.Sequential(activation, nn.MaxPool2d(2))
    hold(module, (3, 8, 8, 6), moments=CENTRED, draws=120, loose=PAIRS, loose_change=CHANGES)


def test_gelu_dips_so_the_maximum_is_approximate(hold):
    module = nn.Sequential(nn.GELU(), nn.MaxPool2d(3))
    loose = {"second": 0.01, "mean": 0.01}
    hold(module, (3, 8, 9, 6), moments=CENTRED, draws=120, loose={**PAIRS, **loose}, loose_change={**CHANGES, **loose})


def test_a_border_of_minus_infinity_is_left_out(hold):
    """TensorFlow's padding, as timm writes it before a pool."""
    module = nn.Sequential(nn.ConstantPad2d((0, 1, 0, 1), -math.inf), nn.MaxPool2d(3, 2))
    hold(module, (3, 8, 8, 8), moments=CENTRED, draws=120, loose=PAIRS, loose_change=CHANGES)


class GatedThenPooled(nn.Module):
    """What effective squeeze-and-excite does in front of the next stage (Lee & Park 2020, arXiv:1911.06667)."""

    def forward(self, x, gate):
        return nn.functional.max_pool2d(torch.relu(x) * torch.sigmoid(gate), 2)


def test_a_gate_of_whole_channels_scales_the_largest(hold):
    """max(g·relu(x)) = g·max(relu(x)): a change passes where the largest is positive, 15/16 of a white 2×2 window, not ½."""
    hold(GatedThenPooled(), (4, 16, 6, 6), (4, 16, 1, 1), moments=CENTRED, loose=PAIRS, loose_change=CHANGES)


@pytest.mark.parametrize("size", [2, 1, 3])
def test_adaptive_windows_are_windows(hold, size):
    hold(nn.AdaptiveMaxPool2d(size), (3, 8, 6, 6), moments=CENTRED, draws=100, loose=PAIRS, loose_change=CHANGES)
