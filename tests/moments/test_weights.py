"""Weight ops: second moments and pairs through the op's own geometry, for small changes as well."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.moments import Load, Moments, propagate
from stepzero.network import capture

CONVOLUTIONS = {
    "plain": (nn.Conv2d(6, 8, 3), (3, 6, 7, 6)),
    "padded": (nn.Conv2d(6, 8, 3, padding=1), (3, 6, 6, 5)),
    "strided": (nn.Conv2d(6, 8, 3, stride=2, padding=1), (3, 6, 9, 8)),
    "dilated": (nn.Conv2d(6, 8, 3, dilation=2, padding=2), (3, 6, 8, 7)),
    "grouped": (nn.Conv2d(6, 12, 3, groups=3, padding=1), (3, 6, 6, 6)),
    "depthwise": (nn.Conv2d(8, 8, 3, groups=8, padding=1), (3, 8, 6, 6)),
    "pointwise": (nn.Conv2d(6, 8, 1, bias=False), (3, 6, 5, 5)),
    "patches": (nn.Conv2d(3, 8, 4, stride=4), (3, 3, 8, 8)),
    "one-dimensional": (nn.Conv1d(6, 8, 5, padding=2, stride=2), (3, 6, 15)),
    "three-dimensional": (nn.Conv3d(4, 8, 3, padding=1), (2, 4, 4, 4, 3)),
    "same": (nn.Conv2d(6, 8, (3, 5), padding="same"), (3, 6, 6, 6)),
    "circular": (nn.Conv2d(6, 8, 3, padding=1, padding_mode="circular"), (3, 6, 6, 6)),
    "reflect": (nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"), (3, 6, 6, 6)),
    "replicate": (nn.Conv2d(6, 8, 3, padding=1, padding_mode="replicate"), (3, 6, 6, 6)),
    "transposed": (nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1), (3, 6, 5, 5)),
    "transposed, output padded": (nn.ConvTranspose2d(6, 8, 3, stride=2, padding=1, output_padding=1), (3, 6, 5, 5)),
    "transposed, stride 1": (nn.ConvTranspose2d(6, 8, 3, padding=1), (3, 6, 5, 5)),
    "transposed, grouped": (nn.ConvTranspose2d(6, 12, 2, stride=2, groups=3), (3, 6, 4, 4)),
    "transposed, dilated": (nn.ConvTranspose2d(6, 8, 3, stride=2, dilation=2), (3, 6, 4, 4)),
    "transposed, one-dimensional": (nn.ConvTranspose1d(6, 8, 4, stride=2), (3, 6, 9)),
    "transposed, three-dimensional": (nn.ConvTranspose3d(4, 8, 2, stride=2), (2, 4, 3, 3, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_every_kind(hold, name):
    module, shape = CONVOLUTIONS[name]
    # replicated borders put copies side by side, which padding counts as other places: seen by `near` on small maps
    loose = {"near": 0.12, "elsewhere": 0.02, "apart": 0.02} if name == "replicate" else {}
    hold(module, shape, draws=150, loose=loose, loose_change={**loose, "near": 0.2} if loose else {})


def test_linear_maps_on_features_last(hold):
    hold(nn.Linear(12, 16), (5, 12))
    hold(nn.Linear(12, 16, bias=False), (3, 7, 12), channel_last=True)


class Blur(nn.Module):
    """Fixed smoothing of every channel, as before a stride in antialiased nets."""

    def __init__(self):
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", (line[:, None] * line).expand(8, 1, 3, 3).clone())

    def forward(self, x):
        return F.conv2d(x, self.kernel, stride=2, groups=8)


@pytest.mark.parametrize("weight", [(0.3, 0.2), (0.3, 0.0)], ids=["random with a mean", "constant"])
def test_weights_with_a_mean_also_pass_what_their_inputs_share(hold, weight):
    hold(nn.Conv2d(6, 8, 3, bias=False), (3, 6, 6, 6), weight=weight)
    hold(nn.Linear(12, 16, bias=False), (5, 12), weight=weight)


class ChannelAttention(nn.Module):
    """A gate from neighbouring channels by one small filter (ECA, Wang et al. 2020)."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        gate = self.filter(x.mean((2, 3)).unsqueeze(1)).sigmoid()
        return gate.reshape(*x.shape[:2], 1, 1).expand_as(x)


def test_one_filter_over_channels_makes_channels():
    """The places of a map share their gate; those of two inputs do not."""
    graph = capture(ChannelAttention(), (4, 8, 5, 5))
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    m = propagate(graph, {}, {"filter.weight": (0 * one, 25 * one)}).signals[graph.outputs[0]].moments
    assert torch.equal(m.elsewhere, m.second)
    assert torch.equal(m.apart, m.across)
    assert float(m.across.mean()) < 0.95 * float(m.second.mean())


def test_a_known_kernel_is_a_fixed_map(hold):
    hold(Blur(), (3, 8, 9, 9))


class BlurOfUneven(Blur):
    """A map that is darker towards one corner, blurred: its two inputs share the level of a place, no noise."""

    def forward(self, x):
        light = torch.linspace(0.5, 1.0, 9, dtype=x.dtype)
        return super().forward(x * (light[:, None] * light))


def test_a_known_kernel_keeps_the_levels_of_an_uneven_map(hold):
    hold(
        BlurOfUneven(), (3, 8, 9, 9), moments=(1.0, 1.2, 1.0, 1.0, 1.0, 1.0), loose={"near": 0.04}
    )  # neighbours are taken as level


def test_kernels_whose_taps_differ_use_their_own(hold):
    centre = torch.zeros(1, 1, 3, 3)
    centre[..., 1, 1] = 1.0

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)

        def forward(self, x):
            return F.conv2d(x, self.conv.weight * centre, padding=1)

    hold(Masked(), (3, 8, 5, 5))


def test_a_delta_kernel_does_not_see_the_border():
    graph = capture(nn.Conv2d(8, 8, 3, padding=1, bias=False), (2, 8, 4, 4))
    second = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    second[..., 1, 1] = 0.5
    flow = propagate(graph, {}, {"weight": (torch.zeros_like(second), second)})
    y = flow.signals[graph.outputs[0]].second
    assert torch.allclose(y, torch.full_like(y, 8 * 0.5))


def test_the_load_says_fan_and_second_moment_per_unit_of_weight():
    loads = []

    class Recording:
        def settle(self, call, weight, load):
            loads.append(load)
            return weight

    graph = capture(nn.Conv2d(4, 8, 3, padding=1, bias=False), (1, 4, 2, 2))
    one = torch.tensor(1.0).double()
    propagate(graph, {}, {"weight": (0 * one, one)}, weights=Recording())
    assert loads == [Load(second=16.0, fan=16.0, input_second=1.0)]  # 2 × 2 of the 3 × 3 taps meet the map


class Blurred(nn.Module):
    """Blur pooling (Zhang 2019, arXiv:1904.11486)."""

    def __init__(self, channels):
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", (line[:, None] * line).expand(channels, 1, 3, 3).clone())

    def forward(self, x):
        return F.conv2d(x, self.kernel, stride=2, groups=x.shape[1])


def test_a_blur_sees_what_neighbours_share_fade_with_distance():
    """Correlation 0.4ⁿ at distance n: were all taps neighbours, E[y²] would be 37 % more."""
    size, shape = 25, (8, 16, 25, 25)
    fade = 0.4 ** (torch.arange(size)[:, None] - torch.arange(size)).abs().double()
    root = torch.linalg.cholesky(fade)
    graph = capture(Blurred(16), shape)
    zero, one = (torch.full((1, 1, 1, 1), v).double() for v in (0.0, 1.0))
    far = one * ((float(fade.mean()) * size) ** 2 - 1) / (size**2 - 1)
    moments = Moments(zero, one, 0.4 * one, far, zero, zero)
    y = propagate(graph, {"x": moments}, {}, on_unknown="error").signals[graph.outputs[0]]
    torch.manual_seed(22)
    rows = []
    for _ in range(40):
        out = Blurred(16).double()(root @ torch.randn(shape).double() @ root.T)
        beside = (out[..., 1:] * out[..., :-1]).mean() + (out[:, :, 1:] * out[:, :, :-1]).mean()
        rows.append(torch.stack([out.square().mean(), beside / 2]))
    means, errors = torch.stack(rows).mean(0), torch.stack(rows).std(0) / 40**0.5
    predicted = torch.stack([y.second.mean(), y.moments.near.mean()])
    assert ((means - predicted).abs() <= 4 * errors + 0.01 * means[0]).all()


def test_places_of_a_known_grid_share_what_their_features_share():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            t = torch.arange(6.0)[:, None] * torch.tensor([0.1, 0.5, 2.0, 4.0])
            waves = torch.cat([t.sin(), t.cos()], 1).T  # (8, 6)
            grid = torch.cat([waves[:, :, None].expand(8, 6, 6), waves[:, None].expand(8, 6, 6)])
            self.register_buffer("grid", grid[None])
            self.conv = nn.Conv2d(16, 24, 1, bias=False)

        def forward(self, x):
            return x + self.conv(self.grid)

    net = Positions()
    graph = capture(net, (2, 24, 6, 6))
    law = torch.zeros((), dtype=torch.float64), torch.tensor(1 / 8, dtype=torch.float64)
    y = propagate(graph, {}, {"conv.weight": law}, on_unknown="error").signals[graph.outputs[0]]
    q, total = net.grid.square().mean(), net.grid.mean((2, 3)).square().mean() * 36
    assert y.average(y.second) == pytest.approx(1 + 2 * float(q))
    assert y.average(y.elsewhere) == pytest.approx(2 * float(total - q) / 35)  # of E[w²] Σ_c x_c(p) x_c(p')
