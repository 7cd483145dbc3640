"""Replay lets its caller watch and replace values, and touches none of the tensors that it is given."""

import torch
from torch import nn

from stepzero.network import capture, leaves, replay


def test_observe_sees_every_value_and_may_replace_it():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    x = torch.randn(2, 3)
    graph = capture(model, x)
    seen = {}

    def double(value, tensor):
        seen[value.id] = tensor
        return tensor * 2 if value.node == 0 else tensor

    [out] = replay(graph, leaves(graph, model, x), double)
    assert list(seen) == [v for node in graph.nodes for v in node.outputs]
    torch.testing.assert_close(out, (model[0](x) * 2).relu())


def test_gradients_of_values_can_be_retained_through_observe():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 1))
    x = torch.randn(2, 3)
    graph = capture(model, x)
    kept = []

    def keep(value, tensor):
        tensor.retain_grad()
        kept.append(tensor)
        return tensor

    [out] = replay(graph, leaves(graph, model, x), keep)
    out.sum().backward()
    torch.testing.assert_close(kept[1].grad, model[2].weight.expand(2, 3))


def test_buffers_and_inputs_stay_as_they_were():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU(inplace=True))
    x = torch.randn(4, 3)
    before = x.clone(), {name: b.clone() for name, b in model.named_buffers()}
    graph = capture(model, x)
    replay(graph, leaves(graph, model, x))
    assert torch.equal(x, before[0])
    assert all(torch.equal(b, before[1][name]) for name, b in model.named_buffers())


def test_inputs_given_as_a_shape_are_drawn():
    model = nn.Linear(3, 2)
    graph = capture(model, (4, 3))
    assert replay(graph, leaves(graph, model, (4, 3)))[0].shape == (4, 2)
