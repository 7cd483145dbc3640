"""Recurrent layers in mean field, held against layers of width 128 with fresh weights."""

import pytest
from torch import nn

WIDTH, STEPS = 128, 24
PAIRED = (0.0, 1.0, 0.4, 0.4, 0.4, 0.4)


class First(nn.Module):
    """The sequence that a recurrent layer puts out."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


KINDS = {
    "LSTM": lambda: nn.LSTM(WIDTH, WIDTH, batch_first=True),
    "GRU": lambda: nn.GRU(WIDTH, WIDTH, batch_first=True),
    "tanh": lambda: nn.RNN(WIDTH, WIDTH, batch_first=True),
    "relu without bias": lambda: nn.RNN(WIDTH, WIDTH, nonlinearity="relu", bias=False, batch_first=True),
    "two LSTM layers both ways": lambda: nn.LSTM(WIDTH, WIDTH // 2, 2, bidirectional=True, batch_first=True),
    "projected LSTM": lambda: nn.LSTM(WIDTH, WIDTH, proj_size=64, batch_first=True),
}
SD = {"relu without bias": 0.7 * WIDTH**-0.5}


@pytest.mark.parametrize("name", KINDS)
def test_a_recurrent_layer(hold, name):
    pairs = dict.fromkeys(("near", "elsewhere", "across", "apart"), 0.05)
    hold(
        First(KINDS[name]()), (2, STEPS, WIDTH), moments=PAIRED, weight=(0.0, SD.get(name, WIDTH**-0.5)), draws=24,
        channel_last=True, loose=pairs | {"second": 0.03, "mean": 0.01}, loose_change=pairs | {"second": 0.1},
    )  # fmt: skip
