"""The vectors of spectral norm belong to the weight that was written, wherever it was written to."""

import pytest
import torch
from torch import nn

import stepzero
from stepzero import filling
from stepzero.errors import ApplyError
from stepzero.filling import _apply
from stepzero.filling._spectral import power_iterated

NORMS = {"parametrisation": nn.utils.parametrizations.spectral_norm, "hook": nn.utils.spectral_norm}


def network(norm):
    return nn.Sequential(norm(nn.Conv1d(4, 6, 3)), nn.ReLU(), norm(nn.ConvTranspose1d(6, 8, 2)))


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("goal", ["forward", "own"])
def test_vectors_for_a_file_are_the_bits_that_materialize_leaves(kind, goal):
    def factory():
        return network(NORMS[kind])

    model = stepzero.build(factory)
    plan = stepzero.plan(model, (2, 4, 9), goal=goal)
    found = filling.drawn_vectors(model, plan, {}, 7)
    stepzero.materialize_(model, plan, seed=7)
    held = dict(model.named_buffers())
    assert found.keys() == held.keys()
    assert len(held) == 4
    assert all(torch.equal(found[name], held[name]) for name in held)


def test_weights_that_a_plan_keeps_are_iterated_on_as_they_are_given():
    model = network(NORMS["parametrisation"])
    name = "0.parametrizations.weight.original"
    weight = dict(model.named_parameters())[name].detach()
    left, right = (nn.init.orthogonal_(torch.empty(6, n)) for n in (6, 12))
    weight.copy_((left @ torch.diag(torch.tensor([3.0, 1.0, 0.9, 0.5, 0.2, 0.1])) @ right).reshape(6, 4, 3))
    found = filling.drawn_vectors(model, {}, {name: weight}, 0)
    u, v = (found[f"0.parametrizations.weight.0.{end}"] for end in ("_u", "_v"))
    norm = torch.linalg.matrix_norm(weight.flatten(1), 2)
    assert (u @ weight.flatten(1) @ v / norm).item() == pytest.approx(
        1.0, abs=1e-5
    )  # each iteration takes off a factor of 9
    assert len(found) == 2  # nothing is known of the other weight


@pytest.mark.parametrize(
    "write", [stepzero.Plan.apply_, lambda plan, model, seed: stepzero.materialize_(model, plan, seed)]
)
def test_vectors_in_memory_are_iterated_anew_on_what_is_drawn(write):
    model = network(NORMS["parametrisation"])
    plan = stepzero.plan(model, (2, 4, 9))
    receipt = write(plan, model, 3)
    assert len(receipt.computed) == 4
    for at, rows in ((0, 0), (2, 1)):
        weight = model[at].eval().weight.transpose(0, rows).flatten(1)
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1.0, abs=0.1)


def test_an_interrupt_restores_the_vectors(monkeypatch):
    model = network(NORMS["parametrisation"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    real, calls = _apply.reset, []

    def interrupted(*arguments):
        calls.append(real(*arguments))
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(_apply, "reset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stepzero.plan(model, (2, 4, 9)).apply_(model, seed=3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_norm_whose_weight_is_elsewhere_says_so():
    norm = network(NORMS["parametrisation"])[0].parametrizations.weight[0]
    with pytest.raises(ApplyError, match="not in the model"):
        power_iterated(norm, nn.Sequential(norm), "0", 0)
