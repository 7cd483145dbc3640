import numpy as np
import pytest
import torch
from torch import nn

from stepzero import filling, streams
from stepzero.errors import ApplyError
from stepzero.filling import _apply, _materialize
from stepzero.laws import Constant, Kept, Normal

from .plans import Entry, plan_for


class Rotary(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.register_buffer("frequencies", 10_000.0 ** (-torch.arange(0, width, 2) / width), persistent=False)
        self.mix = nn.Linear(width, width)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 8, padding_idx=0)
        self.rotary = Rotary()
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight
        self.token = nn.Parameter(torch.randn(1, 8))


def on_meta(factory=Net):
    with torch.device("meta"):
        return factory()


@pytest.fixture
def nan_memory(monkeypatch):
    """Fill fresh memory with NaN, so that what nobody wrote shows."""
    original = _materialize.empty_like

    def poisoned(tensor, device):
        made = original(tensor, device)
        return made.fill_(float("nan")) if made.is_floating_point() else made.fill_(-99)

    monkeypatch.setattr(_materialize, "empty_like", poisoned)


def plan_of(model):
    return plan_for(model) | {
        "norm.weight": Entry((8,), "float32", Constant(1.0)),
    }


def test_every_parameter_and_buffer_is_written(nan_memory):
    model = on_meta()
    plan = plan_of(model)
    receipt = filling.materialize_(model, plan, 3, factory=Net)
    for name, tensor in model.state_dict().items():
        assert not torch.isnan(tensor).any(), name
    assert torch.equal(model.rotary.frequencies, Rotary().frequencies)
    assert model.norm.num_batches_tracked == 0
    assert set(receipt.computed) == {
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
        "rotary.frequencies",
    }
    np.testing.assert_array_equal(
        model.rotary.mix.weight.detach(), streams.draw(Normal(0.02), (8, 8), 3, "rotary.mix.weight")
    )


def test_ties_stay_ties_and_are_written_once(nan_memory):
    model = on_meta()
    model.head.weight = model.embed.weight  # building on meta keeps it; said again for the reader
    filling.materialize_(model, plan_of(model), factory=Net)
    assert model.head.weight is model.embed.weight
    assert not model.embed.weight[0].any()


def test_the_values_are_those_that_apply_writes():
    plain, meta = Net(), on_meta()
    plan = plan_of(plain)
    one, other = filling.apply(plan, plain, 9), filling.materialize_(meta, plan, 9, factory=Net)
    assert one.digest == other.digest
    for ours, theirs in zip(plain.parameters(), meta.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert theirs.requires_grad == ours.requires_grad


def test_tensors_that_nobody_knows_are_all_listed_and_nothing_changes():
    model = on_meta()
    plan = plan_of(model)
    del plan["token"]
    plan["rotary.mix.bias"] = Entry((8,), "float32", Kept())
    with pytest.raises(ApplyError, match="nothing is known of the values of 3 tensors") as error:
        filling.materialize_(model, plan)
    for name in ("token", "rotary.mix.bias", "rotary.frequencies"):
        assert name in str(error.value)
    assert all(tensor.is_meta for tensor in model.state_dict().values())


def test_given_values_are_taken_for_parameters_and_buffers(nan_memory):
    model = on_meta()
    plan = plan_of(model)
    del plan["token"]
    values = {"token": torch.ones(1, 8), "rotary.frequencies": torch.arange(4.0)}
    receipt = filling.materialize_(model, plan, values=values)
    assert torch.equal(model.token, torch.ones(1, 8))
    assert torch.equal(model.rotary.frequencies, torch.arange(4.0))
    assert "token" in receipt.computed
    assert receipt.kept == ()


def test_a_given_value_of_another_shape_is_refused():
    with pytest.raises(ApplyError, match=r"token: the value given is torch.float32 \(2, 8\)"):
        filling.materialize_(on_meta(), plan_for(on_meta()), factory=Net, values={"token": torch.ones(2, 8)})


def test_what_has_memory_and_is_not_in_the_plan_stays():
    model = on_meta()
    model.token = nn.Parameter(torch.full((1, 8), 5.0))
    plan = plan_of(model)
    del plan["token"]
    kept = model.token
    receipt = filling.materialize_(model, plan, factory=Net)
    assert model.token is kept
    assert (model.token == 5).all()
    assert receipt.kept == ("token",)


@pytest.mark.parametrize("failing", ["write", "empty_like"])
def test_an_error_half_way_leaves_the_model_on_meta_and_pretrained_values_as_they_were(monkeypatch, failing):
    model = on_meta()
    model.token = nn.Parameter(torch.full((1, 8), 5.0))
    before = dict(model.named_parameters())
    home = _apply if failing == "write" else _materialize
    original, calls = getattr(home, failing), []

    def broken(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(home, failing, broken)
    with pytest.raises(KeyboardInterrupt):
        filling.materialize_(model, plan_of(model), factory=Net)
    after = dict(model.named_parameters())
    assert all(after[name] is tensor for name, tensor in before.items())
    assert (model.token == 5).all()
    assert model.head.weight is model.embed.weight
    assert model.embed.weight.is_meta


def test_the_factory_runs_without_touching_the_random_state_or_allocating_for_good():
    state = torch.get_rng_state()
    filling.materialize_(on_meta(), plan_of(on_meta()), factory=Net)
    assert torch.equal(state, torch.get_rng_state())


def test_a_factory_that_makes_no_module_is_refused():
    with pytest.raises(ApplyError, match="the factory returned int"):
        filling.materialize_(on_meta(), plan_of(on_meta()), factory=lambda: 3)


def test_a_model_in_memory_is_drawn_in_place():
    model = Net()
    held = model.embed.weight
    filling.materialize_(model, plan_of(model), 1)
    assert model.embed.weight is held
    np.testing.assert_array_equal(held.detach()[1:], streams.draw(Normal(0.02), (10, 8), 1, "embed.weight")[1:])


def test_mixed_formats_and_parametrised_weights_come_from_meta_too(nan_memory):
    def factory():
        return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2).to(torch.bfloat16))

    model = on_meta(factory)
    plan = plan_for(model, Normal(1.0))
    filling.materialize_(model, plan)
    assert model[1].weight.dtype == torch.bfloat16
    assert not any(torch.isnan(tensor).any() for tensor in model.state_dict().values())
    assert torch.isfinite(model[0](torch.ones(1, 4))).all()
