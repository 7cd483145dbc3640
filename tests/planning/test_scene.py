"""The scene: where heads, gates, scales and modulations are found, and what is not taken for one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stepzero.network import ModelInputs, capture
from stepzero.planning import Scene
from stepzero.planning._slots import slots


def scene(model: nn.Module, inputs) -> Scene:
    graph = capture(model, ModelInputs.of(inputs))
    return Scene(graph, slots(graph))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.classes, self.boxes = nn.Linear(8, 8), nn.Linear(8, 3), nn.Conv1d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.body(x))
        return self.classes(x).flatten(1), self.boxes(x.transpose(1, 2)).transpose(1, 2)


class Gated(nn.Module):
    """A gated unit: its parts multiply each other, so that zero would silence it for good."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.up, self.act, self.down = nn.Linear(8, 32), act, nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.up(x).chunk(2, dim=-1)
        return self.down(self.act(a) * b)


def test_every_output_may_have_a_head():
    found = scene(TwoHeads(), (2, 5, 8))
    assert [found.owners[node] for node in found.heads()] == ["classes.weight", "boxes.weight"]


def test_a_head_behind_an_activation_is_none():
    assert scene(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), (2, 4)).heads() == []


@pytest.mark.parametrize("act", [nn.Identity(), nn.SiLU()])
def test_a_gated_unit_is_no_modulation(act):
    assert scene(Gated(act), (2, 5, 8)).modulations() == []


def test_only_weights_that_nothing_stands_before_read_the_input():
    found = scene(TwoHeads(), (2, 5, 8))
    first = {found.owners[node]: found.reads_input(node) for node in found.owners}
    assert first == {"body.weight": True, "classes.weight": False, "boxes.weight": False}


def test_width_is_what_a_layer_reads_whatever_the_layout_of_its_weight():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 5, 2))
    found = scene(net, (1, 3, 6, 6))
    assert {found.owners[n]: found.width(n) for n in found.owners} == {"0.weight": 3, "1.weight": 8}


@pytest.mark.parametrize("projection", [0, 4])
def test_recurrent_layers_are_told_apart_with_their_projections(projection):
    net = nn.LSTM(8, 16, 2, batch_first=True, proj_size=projection)
    layers = list(scene(net, (2, 5, 8)).recurrent())
    assert [(layer.input, layer.hidden) for layer in layers] == [
        ("weight_ih_l0", "weight_hh_l0"),
        ("weight_ih_l1", "weight_hh_l1"),
    ]
    assert [layer.projection for layer in layers] == (["weight_hr_l0", "weight_hr_l1"] if projection else [None, None])
