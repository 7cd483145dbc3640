"""Average pooling and resizing: fixed mixtures of positions."""

import pytest
import torch
from torch import nn

MIXTURES = {
    "average": nn.AvgPool2d(2),
    "average, overlapping": nn.AvgPool2d(3, 2, 1),
    "average, ceil": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "average, padding not counted": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average, own divisor": nn.AvgPool2d(2, divisor_override=3),
    "adaptive to one": nn.AdaptiveAvgPool2d(1),
    "adaptive, uneven": nn.AdaptiveAvgPool2d((3, 5)),
    "adaptive, growing": nn.AdaptiveAvgPool2d(9),
    "nearest": nn.Upsample(scale_factor=2),
    "nearest, exact": nn.Upsample(size=(11, 10), mode="nearest-exact"),
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "bilinear, corners aligned": nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    "bilinear, shrinking": nn.Upsample(size=(4, 3), mode="bilinear"),
    "bicubic": nn.Upsample(scale_factor=2, mode="bicubic"),
}
LINES = {
    "average": nn.AvgPool1d(3, 2),
    "adaptive": nn.AdaptiveAvgPool1d(4),
    "linear": nn.Upsample(size=15, mode="linear"),
}
VOLUMES = {
    "average": nn.AvgPool3d(2),
    "adaptive": nn.AdaptiveAvgPool3d(2),
    "nearest": nn.Upsample(scale_factor=2),
    "trilinear": nn.Upsample(scale_factor=2, mode="trilinear"),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_of_positions(hold, name):
    hold(MIXTURES[name], (3, 8, 8, 7), draws=120)


@pytest.mark.parametrize("name", LINES)
def test_mixtures_in_one_dimension(hold, name):
    hold(LINES[name], (3, 8, 12), draws=120)


@pytest.mark.parametrize("name", VOLUMES)
def test_mixtures_in_three_dimensions(hold, name):
    hold(VOLUMES[name], (2, 6, 4, 5, 4), draws=120)


@pytest.mark.parametrize("module", [nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)])
def test_windows_that_do_not_overlap_are_exact(hold, module):
    hold(module, (3, 8, 8, 6), draws=150)


@pytest.mark.parametrize("c", [0.3, 0.8])
@pytest.mark.parametrize("size", [2, 4, 32])
def test_what_neighbours_share_fades_with_distance(c, size):
    """Of a field with E[x x'] = 0.1 + 0.9·cⁿ at l1 distance n: the mean over a window, and what next ones share."""
    from stepzero.moments import Moments, propagate
    from stepzero.network import capture

    line = c ** (torch.arange(32)[:, None] - torch.arange(32)).abs().double()
    average = (line.mean() ** 2 * 1024 - 1) / 1023
    values = (0.0, 1.0, 0.1 + 0.9 * c, 0.1 + 0.9 * average, 0.0, 0.0)
    m = Moments(*(torch.as_tensor(v, dtype=torch.float64).reshape(1, 1, 1, 1) for v in values))
    graph = capture(nn.AvgPool2d(size), (2, 4, 32, 32))
    y = propagate(graph, {"input": m}, {}).signals[graph.outputs[0]].moments
    own = line[:size, :size].mean()
    assert float(y.second.mean()) == pytest.approx(0.1 + 0.9 * float(own**2), rel=0.01)
    if size < 32:
        beside = line[:size, size : 2 * size].mean()
        assert float(y.near.mean()) == pytest.approx(0.1 + 0.9 * float(own * beside), rel=0.01)
