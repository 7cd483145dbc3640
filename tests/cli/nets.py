"""Small models that the command line is asked to read."""

import torch
from torch import nn


def stack(width=16, act="relu"):
    """Three circular convolutions: kaiming's sqrt(2 / fan_in) is exact after a ReLU."""
    acts = {"relu": nn.ReLU, "gelu": nn.GELU}
    conv = {"kernel_size": 3, "padding": 1, "padding_mode": "circular"}
    return nn.Sequential(
        nn.Conv2d(3, width, **conv),
        acts[act](),
        nn.Conv2d(width, width, **conv),
        acts[act](),
        nn.Conv2d(width, width, **conv),
    )


def normed(width=16):
    """A batch norm: its buffers have to reach the file."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 4)
    )


def spectral():
    """A spectral norm, whose vectors must be those of the weight in the file, before a weight norm."""
    wrap = nn.utils.parametrizations
    return nn.Sequential(wrap.spectral_norm(nn.Linear(16, 16)), nn.ReLU(), wrap.weight_norm(nn.Linear(16, 4)))


class Positioned(nn.Module):
    """A parameter about which no rule has an opinion, a buffer that the constructor computes, a tied weight."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.position = nn.Parameter(torch.full((8,), 0.25))
        self.register_buffer("table", torch.arange(8.0))

    def forward(self, x):
        return self.second(torch.relu(self.first(x + self.table.sin()))) + self.position.exp()


def failing():
    """A factory that raises."""
    raise RuntimeError("no such dataset")


def weightless():
    """A model without parameters."""
    return nn.Sequential(nn.ReLU(), nn.Flatten())


class Lookup(nn.Module):
    """A table with a padding row, whose own values are three times as large as usual."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 16, padding_idx=0)
        self.read = nn.Linear(16, 8)
        nn.init.normal_(self.table.weight, std=3.0)

    def forward(self, ids):
        return self.read(self.table(ids))


class Sorted(nn.Module):
    """Rates whose draw is no law: normals in their order."""

    def __init__(self):
        super().__init__()
        self.read = nn.Linear(16, 8)
        self.rate = nn.Parameter(torch.randn(8).sort().values)

    def forward(self, x):
        return self.read(x) * torch.sigmoid(self.rate)


class Summing(nn.Module):
    """An op without a rule, between two layers: taken as the identity, the prediction behind it is wrong."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)

    def forward(self, x):
        return self.second(torch.logcumsumexp(self.first(x), dim=1))


class Unwritten(nn.Module):
    """A parameter that nothing writes."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.empty(8))

    def forward(self, x):
        return x * self.scale


def two():
    """The layers of `Summing` under other names, one of them three times as large."""
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    with torch.no_grad():
        net[2].weight.mul_(3)
    return net
