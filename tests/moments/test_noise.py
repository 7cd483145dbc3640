"""Noise that training adds: dropout of every kind, stochastic depth, fresh noise."""

import pytest
import torch
from torch import nn

from stepzero.errors import NoRuleError
from stepzero.moments import propagate
from stepzero.network import capture

DROPOUTS = {
    "dropout": nn.Dropout(0.3),
    "channel dropout": nn.Dropout2d(0.3),
    "alpha dropout": nn.AlphaDropout(0.2),
    "feature alpha dropout": nn.FeatureAlphaDropout(0.2),
    "none": nn.Dropout(0.0),
}


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropout_of_every_kind(hold, name):
    hold(DROPOUTS[name].train(), (8, 12, 5, 5), draws=300)
    hold(DROPOUTS[name].eval(), (3, 8, 5, 5), draws=60)


class Noisy(nn.Module):
    def __init__(self, noise):
        super().__init__()
        self.noise = noise

    def forward(self, x):
        return self.noise(x)


def drop_path(x, keep=0.8):
    return x * x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(keep).div_(keep)


NOISES = {
    "added Gaussian": lambda x: x + 0.5 * torch.randn_like(x),
    "multiplied uniform": lambda x: x * torch.rand(x.shape),
    "a uniform factor for each channel": lambda x: x * torch.rand(x.shape[1], 1, 1),
    "uniform between bounds": lambda x: x + torch.empty(x.shape).uniform_(-1.0, 2.0),
    "normal with mean": lambda x: x + torch.empty(x.shape).normal_(0.5, 0.3),
    "exponential": lambda x: x * torch.empty(x.shape).exponential_(2.0),
    "drop path": drop_path,
    "drop path on a branch": lambda x: x + drop_path(torch.tanh(x)),
}
# x and tanh(x) are functions of one Gaussian, but the mask between them makes them two operands of a sum
JOINT = {"drop path on a branch"}


@pytest.mark.parametrize("name", [n for n in NOISES if n not in JOINT])
def test_fresh_noise_is_a_source(hold, name):
    hold(Noisy(NOISES[name]), (16, 8, 4, 4), draws=300)


def test_a_mask_never_makes_the_signal_undefined():
    graph = capture(Noisy(NOISES["drop path on a branch"]), (8, 4, 4, 4))
    flow = propagate(graph, {}, {}, on_unknown="error")
    assert all(bool(torch.isfinite(s.second).all()) for s in flow.signals.values())


def test_noise_around_a_tensor_has_no_closed_moments():
    graph = capture(Noisy(lambda x: torch.normal(x, 1.0)), (4, 4, 3, 3))
    with pytest.raises(NoRuleError, match="draws around a tensor"):
        propagate(graph, {}, {}, on_unknown="error")
