"""ReLU and its like behind a gate of whole channels, against Monte Carlo."""

import pytest
import torch
from torch import nn

WHITE = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
CENTRED = (0.0, 1.3, 0.5, 0.5, 0.3, 0.2)


class GatedBranch(nn.Module):
    """A residual branch behind squeeze-and-excite (SE-ResNeXt), three times the stream."""

    def forward(self, x, gate, stream):
        return torch.relu(stream + 3 * x * torch.sigmoid(gate))


def test_a_gated_branch_keeps_its_heavy_tails_in_a_sum(hold):
    """As a Gaussian the mean would be 4 % too high, and two inputs would have 2.4 % of E[x²] more in common."""
    shapes = (4, 16, 6, 6), (4, 16, 1, 1), (4, 16, 6, 6)
    loose = {"near": 0.025, "elsewhere": 0.025, "across": 0.01, "apart": 0.01}
    hold(GatedBranch(), *shapes, moments=WHITE, draws=100, loose_change=loose)


class Gated(nn.Module):
    """Squeeze-and-excite in front of the activation (ReXNet, MobileNetV3's first blocks)."""

    def __init__(self, act):
        super().__init__()
        self.act = act

    def forward(self, x, gate):
        return self.act(x * torch.sigmoid(gate))


@pytest.mark.parametrize("act", [nn.ReLU(), nn.ReLU6()])
def test_what_is_homogeneous_acts_on_the_map_and_the_gate_stays_outside(hold, act):
    """Every moment exactly; as one Gaussian the mean would be 10 % too high."""
    hold(Gated(act), (4, 16, 6, 6), (4, 16, 1, 1), moments=CENTRED, draws=100)
