"""Every activation of torch.nn, by Gaussian integrals: one at a time, in chains, and joined with its own input."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.moments import propagate
from stepzero.network import capture

ACTIVATIONS = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "leaky relu": nn.LeakyReLU(0.2),
    "prelu": nn.PReLU(),
    "rrelu": nn.RReLU(),
    "elu": nn.ELU(0.7),
    "celu": nn.CELU(0.7),
    "selu": nn.SELU(),
    "gelu": nn.GELU(),
    "gelu tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "softplus": nn.Softplus(2.0),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "hardtanh": nn.Hardtanh(-0.8, 1.2),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "logsigmoid": nn.LogSigmoid(),
    "softsign": nn.Softsign(),
    "tanhshrink": nn.Tanhshrink(),
    "softshrink": nn.Softshrink(0.4),
    "hardshrink": nn.Hardshrink(0.4),
    "threshold": nn.Threshold(0.2, -0.3),
}


class Written(nn.Module):
    """An activation written out in ops of one input."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


CHAINS = {
    "swish written out": lambda x: x * torch.sigmoid(1.702 * x),
    "hard swish written out": lambda x: x * F.relu6(x + 3) / 6,
    "gelu written out": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "concatenated relu": lambda x: torch.cat([F.relu(x), F.relu(x)], 1),
    "scaled relu": lambda x: 1.7 * F.relu(x),
    "relu of tanh": lambda x: F.relu(torch.tanh(x) - 0.2),
    "squared relu": lambda x: F.relu(x) ** 2,
    "x plus its relu": lambda x: x + F.relu(x),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(hold, name):
    weight = (0.3, 0.1) if name == "prelu" else (0.0, 0.5)
    hold(ACTIVATIONS[name].train(), (3, 8, 5, 5), weight=weight, draws=100)


@pytest.mark.parametrize("name", CHAINS)
def test_functions_of_one_gaussian_are_one_function(hold, name):
    hold(Written(CHAINS[name]), (3, 8, 5, 5), draws=120)


def test_slopes_of_prelu_may_differ(hold):
    hold(nn.PReLU(16), (3, 16, 4, 4), weight=(0.2, 0.3), draws=250)


@pytest.mark.parametrize("name", ["acos", "asin"])
def test_angles_between_unit_vectors(name):
    """Their cosines' Gaussian passes ±1, where there is no angle (YOSO: Zeng et al. 2021, eq. 8)."""
    net = Angles(getattr(torch, name))
    graph = capture(net, ((2, 16, 32), (2, 16, 32)))
    predicted = propagate(graph, {}, {}, on_unknown="error").second(graph.outputs[0])
    torch.manual_seed(5)
    drawn = net(torch.randn(300, 16, 32), torch.randn(300, 16, 32)).square().mean()
    assert predicted == pytest.approx(float(drawn), rel=0.03)


class Remainder(nn.Module):
    """√(1 - a²) of a gate a, as gated linear recurrences scale their inputs (Griffin: De et al. 2024, eq. 4)."""

    def forward(self, x):
        return (1.0 - torch.sigmoid(3.0 * x + 2.0).square()).sqrt()


def test_a_square_root_whose_gaussian_dips_below_zero():
    graph = capture(Remainder(), (2, 64))
    predicted = propagate(graph, {}, {}, on_unknown="error").second(graph.outputs[0])
    torch.manual_seed(6)
    assert predicted == pytest.approx(float(Remainder()(torch.randn(4000, 64)).square().mean()), rel=0.1)


class Angles(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, a, b):
        return self.function(F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).transpose(-1, -2))
