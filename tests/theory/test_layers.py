"""Fans of layers: each is read from its class, and held against what the layer does to variances."""

import pytest
import torch
from torch import nn

from stepzero.errors import FanError
from stepzero.theory import Fans, fans

LAYERS = [
    (nn.Linear(64, 10), {}, (64, 10)),
    (nn.Conv2d(1, 32, 5), {}, (25, 800)),
    (nn.Conv2d(8, 16, 3, padding=1), {"input_size": 7}, (58.9387755, 117.877551)),
    (nn.Conv3d(4, 8, 3, groups=2, stride=2), {}, (54, 13.5)),
    (nn.Conv1d(4, 8, 3, padding="same", dilation=2), {"input_size": 10}, (10.4, 20.8)),
    (nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"), {"input_size": 4}, (72, 72)),
    (nn.ConvTranspose2d(512, 3, 4, 2, 1), {}, (2048, 48)),
    (nn.ConvTranspose1d(6, 9, 3, 2, 1, output_padding=1, groups=3), {"input_size": 8}, (2.875, 8.625)),
    (nn.Bilinear(3, 4, 5), {}, (12, 20)),
    (nn.Embedding(1000, 16), {}, (1, 16)),
    (nn.LSTM(4, 8), {}, (4, 8)),
    (nn.LSTM(4, 8), {"weight": "weight_hh_l0"}, (8, 8)),
    (nn.LSTM(4, 8, proj_size=3), {"weight": "weight_hr_l0"}, (8, 3)),
    (nn.GRU(4, 8, 2, bidirectional=True), {"weight": "weight_ih_l1_reverse"}, (16, 8)),
    (nn.RNN(4, 8), {}, (4, 8)),
    (nn.LSTMCell(4, 8), {}, (4, 8)),
    (nn.MultiheadAttention(8, 2), {}, (8, 8)),
    (nn.MultiheadAttention(8, 2, kdim=6), {"weight": "k_proj_weight"}, (6, 8)),
    (nn.MultiheadAttention(8, 2), {"weight": "out_proj.weight"}, (8, 8)),
]


@pytest.mark.parametrize(("layer", "more", "expected"), LAYERS, ids=lambda case: str(case).splitlines()[0])
def test_a_layer_brings_its_own_geometry(layer, more, expected):
    assert tuple(fans(layer, **more)) == pytest.approx(expected, rel=1e-8)


def test_a_layer_without_memory_has_the_same_fans():
    assert fans(nn.Linear(64, 10, device="meta")) == Fans(64, 10)


def test_weight_norm_hides_no_shape():
    layer = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 8, 3, groups=2))
    assert fans(layer) == fans((8, 2, 3, 3), groups=2)


def test_gpt2s_convolution_keeps_inputs_first():
    class Conv1D(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(768, 2304))

        def forward(self, x):
            return x @ self.weight

    assert fans(Conv1D()) == Fans(768, 2304)


def test_a_layer_that_pads_by_the_map_is_read_as_such():
    class Conv2dSame(nn.Conv2d):
        pass

    assert tuple(fans(Conv2dSame(8, 8, 3, stride=2), input_size=7)) == tuple(
        fans((8, 8, 3, 3), stride=2, padding=1, input_size=7)
    )


@pytest.mark.parametrize(
    ("layer", "more", "message"),
    [
        (nn.LazyLinear(3), {}, "LazyLinear does not know the shape of its weight yet"),
        (nn.LazyConv2d(3, 3), {}, "LazyConv2d does not know the shape"),
        (nn.LayerNorm(3), {}, "LayerNorm is no layer with a known layout"),
        (nn.Linear(3, 3), {"stride": 2}, "stride= comes from the layer itself"),
        (nn.Linear(3, 3), {"weight": "bias"}, "Linear has no weight 'bias'. Choose one of weight"),
        (nn.LSTM(3, 3), {"weight": "weight_ih_l7"}, "Choose one of weight_ih_l0, weight_hh_l0"),
    ],
    ids=lambda case: str(case).splitlines()[0],
)
def test_a_layer_without_fans_is_refused(layer, more, message):
    with pytest.raises(FanError, match=message):
        fans(layer, **more)
