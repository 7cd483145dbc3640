"""Packed sequences: what an LSTM makes of sequences of several lengths, and where their steps lie."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from stepzero.moments import propagate
from stepzero.network import capture

WIDTH = 48


class Packed(nn.Module):
    """A recurrent layer between packing and unpacking: the map, its mean over time, the final states."""

    def __init__(self, layer, lengths, *, sort=True, total=None):
        super().__init__()
        self.layer, self.lengths, self.sort, self.total = layer, lengths, sort, total

    def forward(self, x):
        first = self.layer.batch_first
        packed = pack_padded_sequence(x, torch.tensor(self.lengths), first, enforce_sorted=self.sort)
        y, states = self.layer(packed)
        y, _ = pad_packed_sequence(y, first, total_length=self.total)
        return (y, y.mean(int(first)), *(states if isinstance(states, tuple) else (states,)))


LAYERS = {
    "LSTM": lambda: Packed(nn.LSTM(WIDTH, WIDTH, batch_first=True), [7, 5, 3], total=9),
    "GRU, time first, unsorted": lambda: Packed(nn.GRU(WIDTH, WIDTH), [3, 7, 5], sort=False),
    "two LSTM layers both ways": lambda: Packed(
        nn.LSTM(WIDTH, WIDTH, 2, batch_first=True, bidirectional=True), [7, 5, 3]
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_packed_sequences_have_the_moments_of_their_own_lengths(hold_outputs, name):
    module = LAYERS[name]()
    shape = (3, 7, WIDTH) if module.layer.batch_first else (7, 3, WIDTH)
    hold_outputs(module, shape, WIDTH**-0.5, draws=60, within=0.03, back=0.0)


def test_packing_and_unpacking_alone_keep_every_step_in_its_place():
    class Alone(nn.Module):
        def forward(self, x):
            packed = pack_padded_sequence(x, torch.tensor([4, 2]), batch_first=True)
            return pad_packed_sequence(packed, batch_first=True, padding_value=3.0)[0]

    graph = capture(Alone(), (2, 4, 8))
    assert graph.rung == "meta"
    y = propagate(graph, {}, {}, on_unknown="error").signals[graph.outputs[0]]
    assert y.second.expand(2, 4, 1)[..., 0].tolist() == [[1.0] * 4, [1.0, 1.0, 9.0, 9.0]]
    assert y.mean.expand(2, 4, 1)[1, :, 0].tolist() == [0.0, 0.0, 3.0, 3.0]


def test_lengths_that_nobody_knows_leave_a_layer_in_its_stationary_state():
    class Given(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.GRU(WIDTH, WIDTH, batch_first=True)

        def forward(self, x):
            lengths = 1 + x.new_ones(2).cumsum(0).long().flip(0) * int(x[0, 0, 0] > -99)
            return self.layer(pack_padded_sequence(x, lengths, batch_first=True))[1]

    torch.manual_seed(0)
    graph = capture(Given(), (2, 4, WIDTH))
    law = torch.zeros((), dtype=torch.float64), torch.tensor(1 / WIDTH, dtype=torch.float64)
    flow = propagate(graph, {}, dict.fromkeys(graph.parameters, law), on_unknown="error")
    assert 0.1 < flow.second(graph.outputs[0]) < 0.2
