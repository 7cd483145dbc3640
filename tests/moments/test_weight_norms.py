"""Weights that the graph itself rescales: standardised, with a length of their own, by their spectral norm."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class Standardised(nn.Module):
    """As in weight-standardised ResNets: batch_norm over each filter of the weight."""

    def __init__(self, c=16):
        super().__init__()
        self.weight, self.gain = nn.Parameter(torch.ones(c, c, 3, 3)), nn.Parameter(torch.ones(c, 1, 1, 1))

    def forward(self, x):
        w = self.weight.reshape(1, 16, -1)
        w = F.batch_norm(w, None, None, weight=self.gain.view(-1), training=True, eps=1e-6).reshape_as(self.weight)
        return F.conv2d(x, w)


def test_standardised_weights_see_only_what_differs_from_the_mean(hold):
    hold(Standardised(), (3, 16, 5, 5), weight=(0.0, 0.5), draws=250)


def test_weight_norm_divides_the_scale_out(hold):
    module = weight_norm(nn.Conv2d(12, 16, 3, bias=False))
    hold(module, (3, 12, 5, 5), weight=(0.0, 0.5), draws=250)


def test_the_knob_of_a_normalised_weight_is_its_length():
    from stepzero.moments import propagate
    from stepzero.network import capture

    zero, one = torch.tensor(0.0).double(), torch.tensor(1.0).double()
    knobs = []

    class Recording:
        def settle(self, call, weight, load):
            knobs.append(weight.knob)
            return weight

    for module in (weight_norm(nn.Conv2d(4, 8, 3, bias=False)), Standardised()):
        graph = capture(module, (2, 4 if len(knobs) == 0 else 16, 5, 5))
        propagate(graph, {}, dict.fromkeys(graph.parameters, (zero, one)), weights=Recording())
    assert [k.parameter for k in knobs] == ["parametrizations.weight.original0", "gain"]
    assert knobs[0].factor == pytest.approx(1 / 36)
    assert knobs[1].factor == pytest.approx(1.0)
