"""What lint looks at: parameters by law or by value, their places, the joins of a graph, and what could not be known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stepzero.checking._stock import take_stock
from stepzero.errors import ModelError


class Net(nn.Module):
    """Two residual joins, one bias that is added, and a head that shares the embedding's table."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.a, self.b = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.shift = nn.Parameter(torch.zeros(8))
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids) + self.shift
        x = x + self.a(x)
        return self.head(x + self.b(x))


IDS = torch.zeros(2, 3, dtype=torch.int64)


def test_a_factory_is_known_by_its_laws_and_a_model_by_its_values():
    recorded, held = take_stock(Net), take_stock(Net())
    assert recorded.model.a.weight.is_meta
    assert recorded.holdings["a.weight"].law.kind == "uniform"
    assert held.holdings["a.weight"].law is None
    assert held.holdings["a.weight"].values is not None
    for stock in (recorded, held):
        assert stock.notes == ()
        assert (stock.graph, stock.flow) == (None, None)


def test_a_tied_weight_is_held_once_and_found_at_each_of_its_places():
    stock = take_stock(Net)
    assert [name for name in stock.holdings if name in ("embed.weight", "head.weight")] == ["embed.weight"]
    found = [(h.name, type(m).__name__, a) for h, m, a in stock.places(nn.Embedding, nn.Linear) if a == "weight"]
    assert found == [
        ("embed.weight", "Embedding", "weight"), ("embed.weight", "Linear", "weight"),
        ("a.weight", "Linear", "weight"), ("b.weight", "Linear", "weight"),
    ]  # fmt: skip


def test_joins_add_two_activations_and_shifts_do_not():
    assert take_stock(Net).joins == []  # without inputs there is no graph
    assert len(take_stock(Net, IDS).joins) == 2


def test_inputs_bring_the_signal_under_the_model_s_own_laws():
    flow = take_stock(lambda: nn.Linear(12, 8), (4, 12)).flow
    (node,) = flow.graph.nodes
    assert flow.second(node.outputs[0]) == pytest.approx(12 / (3 * 12) + 1 / (3 * 12))  # U(±1/√12): weight and bias


def test_a_model_on_meta_without_a_recording_has_a_graph_and_no_signal():
    with torch.device("meta"):
        net = Net()
    stock = take_stock(net, IDS)
    assert stock.graph is not None
    assert stock.flow is None
    assert "parameters are on meta and nothing recorded their init" in stock.notes[0]
    assert list(stock.weights()) == []


def test_modules_are_found_under_their_names_without_a_wrapper_s_prefix():
    wrapped = torch.nn.DataParallel(Net())
    assert isinstance(take_stock(wrapped).modules["a"], nn.Linear)


def test_what_is_no_model_is_refused_by_its_type():
    with pytest.raises(ModelError, match="'resnet18' is a str: lint a torch"):
        take_stock("resnet18")
