"""Where the values of buffers come from."""

import pytest
import torch
from torch import nn

from stepzero.errors import ApplyError
from stepzero.filling._buffers import constructed_buffers, reset, reset_of
from stepzero.network import buffer_slots


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1000, 1000).normal_())
        self.register_buffer("line", torch.arange(3.0) + torch.rand(()))


def test_a_norm_resets_its_running_statistics():
    model = nn.Sequential(nn.BatchNorm1d(2))
    model[0].running_var.fill_(7.0)
    for slot in buffer_slots(model).values():
        reset(slot, model, seed=0)
    assert model[0].running_var.tolist() == [1.0, 1.0]


def test_a_buffer_of_a_layer_that_nobody_knows_is_left():
    model = Positions()
    (slot,) = buffer_slots(model).values()
    before = model.line.clone()
    reset(slot, model, seed=0)
    assert reset_of(slot, model) is None
    assert torch.equal(model.line, before)


def test_a_constructor_computes_buffers_without_its_weights_and_leaves_the_random_state():
    state, kinds = torch.get_rng_state(), []

    def factory():
        model = Positions()
        kinds.append(model.weight.device.type)
        return model

    found = constructed_buffers(factory)
    assert found.keys() == {"line"}
    assert (found["line"] - found["line"][0]).tolist() == pytest.approx([0.0, 1.0, 2.0], abs=1e-6)
    assert kinds == ["meta"]
    assert torch.equal(torch.get_rng_state(), state)
    assert constructed_buffers(None) == {}
    assert nn.Linear(1, 1).weight.device.type == "cpu"  # the hook is gone


def test_a_factory_of_something_else_is_refused():
    with pytest.raises(ApplyError, match="returned int, not a torch"):
        constructed_buffers(lambda: 3)
