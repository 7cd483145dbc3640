import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from stepzero.errors import ModelError
from stepzero.network import buffer_slots, canonical_name, parameter_slots


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("layers.0.weight", "layers.0.weight"),
        ("_orig_mod.0.weight", "0.weight"),
        ("module.0.weight", "0.weight"),
        ("_orig_mod.module.0.weight", "0.weight"),
        ("module.module.0.weight", "0.weight"),
        ("_fsdp_wrapped_module.0._fsdp_wrapped_module.weight", "0.weight"),
        ("a._checkpoint_wrapped_module.module.weight", "a.module.weight"),
        ("module", "module"),
    ],
)
def test_prefixes_of_wrappers_are_stripped(name, canonical):
    assert canonical_name(name) == canonical
    assert canonical_name(canonical) == canonical


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda model: torch.compile(model, backend="eager"), id="compile"),
        pytest.param(nn.DataParallel, id="data parallel"),
        pytest.param(lambda model: nn.Sequential(*map(checkpoint_wrapper, model)), id="checkpointed children"),
        pytest.param(lambda model: torch.compile(checkpoint_wrapper(model), backend="eager"), id="both"),
    ],
)
def test_a_wrapped_model_has_the_names_and_the_order_of_the_bare_one(wrap):
    bare = net()
    wrapped = wrap(bare)
    for slots in (parameter_slots, buffer_slots):
        assert [(name, id(slot.tensor)) for name, slot in slots(wrapped).items()] == [
            (name, id(slot.tensor)) for name, slot in slots(bare).items()
        ]


def test_names_and_order_are_those_of_named_parameters():
    model = net()
    assert list(parameter_slots(model)) == [name for name, _ in model.named_parameters()]
    assert list(buffer_slots(model)) == [name for name, _ in model.named_buffers()]


def test_a_tied_parameter_has_one_name_and_knows_its_places():
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    (slot,) = parameter_slots(model).values()
    assert slot.name == "embed.weight"
    assert slot.names == ("embed.weight", "head.weight")
    assert [(type(module).__name__, attribute) for module, attribute in slot.places] == [
        ("Embedding", "weight"),
        ("Linear", "weight"),
    ]


def test_a_shared_module_is_one_place():
    layer = nn.Linear(2, 2)
    slots = parameter_slots(nn.Sequential(layer, layer))
    assert slots["0.weight"].names == ("0.weight", "1.weight")
    assert len(slots["0.weight"].places) == 1


def test_names_that_collide_without_their_prefix_are_refused():
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(1))
    model.module = nn.Module()
    model.module.weight = nn.Parameter(torch.zeros(1))
    with pytest.raises(ModelError, match="two tensors are named 'weight'"):
        parameter_slots(model)
