"""What the files of quirks share: a model and its recorded graph, held against each other."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from stepzero.network import capture, leaves, real_inputs, replay, tensors_in

Check = Callable[[Callable[[], nn.Module], object, bool], None]


@pytest.fixture
def replays() -> Check:
    """Hold outputs and gradients of the replayed graph against those of the model."""
    return _replays


@pytest.fixture
def leaves_alone() -> Check:
    """Hold model, inputs and random state after a capture against those before."""
    return _leaves_alone


def _replays(make: Callable[[], nn.Module], inputs: object, training: bool) -> None:
    torch.manual_seed(1)
    model = make().train(training)
    inputs = real_inputs(inputs, seed=2)
    graph = capture(model, copy.deepcopy(inputs))
    parameters = [p for p in model.parameters() if p.requires_grad]
    real = leaves(graph, model, inputs)
    got, slopes = outputs_and_gradients(lambda: replay(graph, real), parameters)
    own = copy.deepcopy(inputs)
    want, own_slopes = outputs_and_gradients(lambda: tensors_in(model(*own.args, **own.kwargs)), parameters)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    for slope, own_slope in zip(slopes, own_slopes, strict=True):
        assert (slope is None) == (own_slope is None)
        if slope is not None:
            torch.testing.assert_close(slope, own_slope, rtol=1e-4, atol=1e-6)


def _leaves_alone(make: Callable[[], nn.Module], inputs: object, training: bool) -> None:
    torch.manual_seed(1)
    model = make().train(training)
    inputs = real_inputs(inputs, seed=2)
    before, random, given = state(model), torch.get_rng_state(), copy.deepcopy(inputs)
    capture(model, inputs)
    assert same_state(before, state(model))
    assert torch.equal(random, torch.get_rng_state())
    for mine, theirs in zip(tensors_in(inputs), tensors_in(given), strict=True):
        assert torch.equal(mine, theirs)


def outputs_and_gradients(run, parameters):
    """Return what a run makes, and the gradients of a fixed projection of it."""
    torch.manual_seed(3)
    outputs = run()
    loss = sum((t * torch.linspace(-1, 2, t.numel()).view_as(t)).sum() for t in outputs if t.requires_grad)
    if not isinstance(loss, Tensor):
        return outputs, []
    loss.backward()
    gradients = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    return outputs, gradients


def state(model: nn.Module):
    """Return everything that capture must leave alone."""
    tensors = {name: (id(t), t._version, t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    modules = {
        path: (
            m.training,
            sorted(vars(m)),
            len(m._forward_hooks),
            len(m._forward_pre_hooks),
            repr(vars(m).get("cache")),
        )
        for path, m in model.named_modules()
    }
    return tensors, modules


def same_state(a, b) -> bool:
    same = {
        name: (one[:2], torch.equal(one[2], two[2]))
        for (name, one), two in zip(a[0].items(), b[0].values(), strict=True)
    }
    ids = {name: (entry[:2], True) for name, entry in b[0].items()}
    return same == ids and a[1] == b[1]
