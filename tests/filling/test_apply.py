import copy

import numpy as np
import pytest
import torch
from torch import nn

from stepzero import filling, streams
from stepzero.errors import ApplyError, SeedError
from stepzero.filling import _apply
from stepzero.laws import Kept, Normal, Orthogonal, TruncatedNormal, Uniform

from .plans import Entry, plan_for


def net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 5), nn.Embedding(7, 4, padding_idx=2)
    )


def expected(model, plan, seed):
    return {name: streams.draw(entry.law, entry.shape, seed, name) for name, entry in plan.items()}


def snapshot(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def unchanged(model, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_every_parameter_gets_the_values_of_its_name():
    model, seed = net(), 5
    plan = plan_for(model)
    receipt = filling.apply(plan, model, seed)
    values = expected(model, plan, seed)
    values["4.weight"][2] = 0  # the padding row
    for name, tensor in model.named_parameters():
        np.testing.assert_array_equal(tensor.detach().numpy(), values[name])
    assert [entry.name for entry in receipt.written] == [name for name, _ in model.named_parameters()]
    assert receipt.kept == ()


def test_buffers_modes_hooks_gradients_and_the_random_state_stay_as_they_were():
    model = net().train()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[3].bias.requires_grad_(False)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    filling.apply(plan_for(model), model, 0)
    assert torch.equal(state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()  # noqa: NPY002
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert model.training
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert not model[3].bias.requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.complex64])
def test_a_models_own_format_is_kept_and_values_are_rounded_to_it(dtype):
    model = nn.Linear(6, 4, dtype=dtype)
    kind = str(dtype).removeprefix("torch.")
    plan = {name: Entry(tuple(t.shape), kind, Normal(0.1)) for name, t in model.named_parameters()}
    filling.apply(plan, model, 1)
    assert model.weight.dtype == dtype
    if dtype.is_complex:
        np.testing.assert_array_equal(
            model.weight.detach().numpy(), streams.draw(Normal(0.1), (4, 6), 1, "weight", kind)
        )
    else:
        exact = torch.from_numpy(streams.draw(Normal(0.1), (4, 6), 1, "weight"))
        assert torch.equal(model.weight, exact.to(dtype))


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(lambda t: t.to(memory_format=torch.channels_last), id="channels_last"),
        pytest.param(lambda t: t.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0), id="permuted"),
        pytest.param(lambda t: torch.zeros(8, 3, 3, 6)[..., ::2], id="strided"),
        pytest.param(lambda t: torch.zeros(20, 3, 3, 3)[5:13], id="inside a larger tensor"),
    ],
)
def test_the_layout_in_memory_changes_no_value_and_nothing_around_it(layout):
    model = nn.Conv2d(3, 8, 3, bias=False)
    model.weight = nn.Parameter(layout(model.weight.detach()))
    storage = torch.tensor([], dtype=torch.float32).set_(model.weight.untyped_storage())
    storage.fill_(7.0)
    filling.apply(plan_for(model), model, 0)
    np.testing.assert_array_equal(model.weight.detach().numpy(), streams.draw(Normal(0.02), (8, 3, 3, 3), 0, "weight"))
    assert int((storage == 7.0).sum()) == storage.numel() - model.weight.numel()


def test_a_tied_parameter_is_written_once_under_its_first_name():
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    receipt = filling.apply({"embed.weight": Entry((5, 4), "float32", Normal(1.0))}, model, 0)
    assert len(receipt.written) == 1
    assert model["head"].weight is model["embed"].weight
    with pytest.raises(ApplyError, match=r"head.weight is tied to embed.weight"):
        filling.apply({"head.weight": Entry((5, 4), "float32", Normal(1.0))}, model, 0)


def test_parametrized_weights_are_written_through_their_originals():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))
    receipt = filling.apply(plan_for(model, Uniform(0.5, 1.0)), model, 0)
    assert "parametrizations.weight.original1" in {entry.name for entry in receipt.written}
    g, v = model.parametrizations.weight.original0, model.parametrizations.weight.original1
    torch.testing.assert_close(model.weight, g * v / v.norm(dim=1, keepdim=True))


def test_what_the_plan_keeps_or_does_not_list_is_not_touched():
    model = net()
    plan = plan_for(model)
    plan["0.weight"] = Entry((8, 3, 3, 3), "float32", Kept())
    del plan["3.weight"]
    before = snapshot(model)
    receipt = filling.apply(plan, model, 0)
    assert receipt.kept == ("0.weight", "3.weight")
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in receipt.kept)
    assert "Kept: 0.weight, 3.weight." in str(receipt)


def test_wrapped_models_take_the_same_plan_and_the_same_values():
    bare, wrapped = net(), torch.compile(net(), backend="eager")
    plan = plan_for(bare)
    assert filling.apply(plan, bare, 3).digest == filling.apply(plan, wrapped, 3).digest
    for ours, theirs in zip(bare.parameters(), wrapped.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_graph_that_saved_the_old_values_notices():
    model = nn.Linear(3, 3)
    loss = model(model(torch.ones(1, 3))).sum()
    filling.apply(plan_for(model), model, 0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_half_way_leaves_every_tensor_as_it_was(monkeypatch, interrupt):
    model = net()
    before, calls, write = snapshot(model), [], _apply.write

    def failing(target, *how):
        write(target, *how)
        calls.append(target)
        if len(calls) == 3:
            raise interrupt

    monkeypatch.setattr(_apply, "write", failing)
    with pytest.raises(interrupt):
        filling.apply(plan_for(model), model, 0)
    assert len(calls) == 3
    assert unchanged(model, before)


def windowed():
    model = nn.Linear(4, 4)
    model.weight = nn.Parameter(torch.zeros(10).as_strided((4, 4), (2, 1)))
    return model


def expanded():
    model = nn.Linear(4, 4)
    model.weight = nn.Parameter(torch.zeros(4).expand(4, 4))
    return model


def sharing():
    memory = torch.zeros(6, 4)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[0].weight, model[1].weight = nn.Parameter(memory[:4]), nn.Parameter(memory[2:])
    return model


def quantised():
    model = nn.Linear(4, 4, bias=False)
    model.weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    return model


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        (net(), {"0.wieght": Entry((1,), "float32", Normal(1.0))}, r"no parameter '0.wieght'.*Did you mean 0.weight"),
        (
            net(),
            {"0.weight": Entry((8, 3, 5, 5), "float32", Normal(1.0))},
            r"0.weight: shape \(8, 3, 3, 3\) in the model",
        ),
        (
            net(),
            {"0.weight": Entry((8, 3, 3, 3), "complex64", Normal(1.0))},
            "float32 in the model, complex64 in the plan",
        ),
        (net().half(), {"0.weight": Entry((8, 3, 3, 3), "float32", Normal(1e-9))}, "float16 cannot hold Normal"),
        (net(), {"3.bias": Entry((5,), "float32", Orthogonal(1.0))}, "at least 2 axes"),
        (net().to("meta"), {}, "meta device and has no memory. Use stepzero.materialize_"),
        (windowed(), {}, r"elements share memory \(strides \(2, 1\)\)"),
        (expanded(), {}, r"elements share memory \(strides \(0, 1\)\)"),
        (sharing(), {}, r"0.weight and 1.weight share memory without being tied"),
        (quantised(), {}, "int8 cannot be drawn"),
    ],
)
def test_a_plan_that_does_not_fit_changes_nothing(model, change, message):
    plan = plan_for(model) | change
    before = None if message.startswith("meta") else snapshot(model)
    with pytest.raises(ApplyError, match=message):
        filling.apply(plan, model, 0)
    assert before is None or unchanged(model, before)


def test_a_partitioned_zero3_parameter_is_not_taken_for_an_empty_one():
    model = nn.Linear(3, 3, bias=False)
    plan = plan_for(model)
    model.weight = nn.Parameter(torch.empty(0))
    model.weight.ds_id = 0
    with pytest.raises(ApplyError, match=r"weight: DeepSpeed ZeRO-3 .*GatheredParameters"):
        filling.apply(plan, model, 0)


def test_a_seed_out_of_range_changes_nothing():
    model = net()
    before = snapshot(model)
    with pytest.raises(SeedError):
        filling.apply(plan_for(model), model, 2**64)
    assert unchanged(model, before)


def test_what_is_not_a_module_is_refused():
    with pytest.raises(ApplyError, match=r"dict is not a torch.nn.Module"):
        filling.apply({}, {}, 0)


def test_columns_of_one_matrix_may_be_parameters_of_their_own():
    memory = torch.zeros(4, 8)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[0].weight, model[1].weight = nn.Parameter(memory[:, :4]), nn.Parameter(memory[:, 4:])
    filling.apply(plan_for(model), model, 0)
    np.testing.assert_array_equal(memory[:, 4:], streams.draw(Normal(0.02), (4, 4), 0, "1.weight"))


def test_memory_mapped_read_only_is_refused_and_not_a_crash(tmp_path):
    path = tmp_path / "weights"
    np.zeros((4, 4), np.float32).tofile(path)
    mapped = np.memmap(path, np.float32, "r", shape=(4, 4))
    address = mapped.__array_interface__["data"][0]
    model = nn.Linear(4, 4, bias=False)
    held = np.lib.stride_tricks.as_strided(
        np.frombuffer((__import__("ctypes").c_char * 64).from_address(address), np.float32), (4, 4)
    )
    model.weight = nn.Parameter(torch.from_numpy(held))
    with pytest.raises(ApplyError, match="memory that cannot be written"):
        filling.apply(plan_for(model), model, 0)


def test_values_do_not_depend_on_the_order_or_number_of_other_layers():
    small = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(4, 5)})
    large = nn.ModuleDict({"new": nn.Linear(2, 2), "b": nn.Linear(4, 5), "a": nn.Linear(3, 4)})
    for model in (small, large):
        filling.apply(plan_for(model, TruncatedNormal(0.1)), model, 11)
    assert torch.equal(small["a"].weight, large["a"].weight)
    assert torch.equal(small["b"].weight, large["b"].weight)


def test_a_receipt_says_what_decides_the_values():
    model = net()
    plan = plan_for(model)
    one, again, other = (filling.apply(plan, copy.deepcopy(model), seed) for seed in (0, 0, 1))
    assert one == again
    assert one.digest == again.digest != other.digest
    data = one.to_dict()
    assert (data["seed"], data["stream"], data["digest"]) == (0, "stepzero-v1", one.digest)
    assert data["written"][0] == {
        "name": "0.weight",
        "shape": [8, 3, 3, 3],
        "dtype": "float32",
        "law": {"law": "normal", "std": 0.02, "mean": 0.0},
    }
    for page in (str(one), one.to_markdown(), one.to_html()):
        assert "0.weight" in page
        assert "row 2 zero: padding" in page


def test_lazy_parameters_are_named_with_what_to_do():
    model = torch.nn.Sequential(torch.nn.LazyLinear(3))
    with pytest.raises(ApplyError, match=r"0\.weight: it has no shape yet\. Run the model once"):
        filling.apply({"0.weight": Entry((3, 4), "float32", Normal(1.0))}, model, 0)
