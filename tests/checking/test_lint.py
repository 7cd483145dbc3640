"""lint(): every rule has a source, good nets pass, and a model is neither filled nor changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import stepzero as sz
from stepzero.checking import LINTS, Lint, Spot, lint
from stepzero.errors import CheckError, InputError, ModelError


def test_every_rule_says_what_it_looks_for_and_where_that_comes_from():
    assert all(rule.about for rule in LINTS.values())
    assert all(rule.source for rule in LINTS.values())


def timm(name: str) -> Callable[[], nn.Module]:
    from stepzero.network import import_torchvision

    import_torchvision()  # timm imports it
    import timm as library

    return lambda: library.create_model(name)


def torchvision(name: str) -> Callable[[], nn.Module]:
    from stepzero.network import import_torchvision

    return getattr(import_torchvision().models, name)


def monai() -> nn.Module:
    """A 3-D U-Net with the init that a plan gives it."""
    from monai.networks.nets import UNet

    net = UNet(3, 1, 2, (8, 16, 32), (2, 2), num_res_units=1, norm="instance")
    sz.initialize_(net, (1, 1, 16, 16, 16))
    return net


GOOD = {
    "resnet18": (lambda: torchvision("resnet18")(), (2, 3, 64, 64)),
    "vgg11_bn": (lambda: torchvision("vgg11_bn")(), (2, 3, 64, 64)),
    "efficientnet_b0": (lambda: timm("efficientnet_b0")(), (2, 3, 64, 64)),  # its groups are counted right
    "vit_tiny": (lambda: timm("vit_tiny_patch16_224")(), (2, 3, 224, 224)),
    "convnext_atto": (lambda: timm("convnext_atto")(), (2, 3, 64, 64)),
    "unet": (monai, (1, 1, 16, 16, 16)),
}


@pytest.mark.parametrize("name", GOOD)
def test_well_initialised_nets_get_notes_at_most(name):
    factory, inputs = GOOD[name]
    found = lint(factory() if name == "unet" else factory, inputs)
    assert not [f for f in found if f.severity != "note"], found


def test_no_weight_is_ever_in_memory_and_the_model_stays_as_it_was():
    built = sz.build(lambda: nn.Linear(1 << 20, 1 << 20))  # 4 TB
    found = lint(built, (1, 1 << 20))
    assert built.weight.is_meta
    assert isinstance(found.to_dict(), dict)
    net = nn.Sequential(nn.Linear(8, 8), nn.Dropout(), nn.BatchNorm1d(8))
    before = {name: t.clone() for name, t in net.state_dict().items()}
    random = torch.get_rng_state()
    lint(net, torch.ones(4, 8))
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert net.training


def test_a_model_on_meta_that_nothing_recorded_is_judged_by_its_structure_and_the_rest_is_said():
    with torch.device("meta"):
        net = nn.ConvTranspose2d(8, 8, 3, stride=2)
    found = lint(net)
    assert {f.rule for f in found} == {"checkerboard"}
    assert "2 parameters are on meta and nothing recorded their init (weight …)" in found.notes[0]


def test_rules_about_the_signal_are_asked_only_with_inputs_and_the_findings_say_so():
    net = nn.Linear(8, 8)
    assert "signal-scale" not in lint(net).rules
    assert "8 rules about the signal need example inputs" in lint(net).notes[-1]
    assert "signal-scale" in lint(net, (1, 8)).rules


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (nn.Linear(8, 8), "--input, such as 1x8; so do the neighbours of 1 of 1 weights"),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()), "--input, such as 1x3x224x224"),
        (nn.ModuleList([nn.Embedding(9, 8), nn.Linear(8, 9)]), "such as 1x8:int64; so do the neighbours of 2 of 2"),
        (nn.PReLU(), "or --input"),
    ],
)
def test_without_inputs_the_findings_say_which_to_pass_and_what_they_would_add(net, said):
    assert said in lint(net).notes[-1]
    assert lint(net).notes[-1].endswith("Sequential tells" if "neighbours" in said else said.rpartition(" ")[2])


def test_findings_are_sorted_counted_and_plain_data():
    found = lint(lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 2, 64), 2, enable_nested_tensor=False))
    severities = [f.severity for f in found]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert found.ok
    data = found.to_dict()
    assert data["counts"] == {"error": 0, "warning": len(found.of("warning")), "note": len(found.of("note"))}
    assert set(data["findings"][0]) == {"rule", "severity", "where", "message", "evidence", "fix"}
    assert found[0].to_dict() == data["findings"][0]
    assert str(found[0]).startswith("warning copies at layers.1.self_attn.in_proj_weight: it holds the same values")


def test_rules_and_places_can_be_left_out_and_added():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    assert not list(lint(net, ignore=["random-bias"]))
    assert not list(lint(net, ignore=["random-bias:0.*"]))
    assert not list(lint(net, ignore=["*:0.bias"]))
    assert list(lint(net, ignore=["random-bias:1.*"]))
    mine = Lint(lambda stock: [Spot("error", "here", f"{len(stock.holdings)} parameters")], "mine", "me")
    assert [f.message for f in lint(net, rules=LINTS | {"mine": mine}) if f.rule == "mine"] == ["4 parameters"]


def test_misuse_names_what_is_known():
    with pytest.raises(CheckError, match=r"no lint rule 'padding-rows'\. Known are padding-row"):
        lint(nn.Linear(2, 2), ignore=["padding-rows"])
    with pytest.raises(ModelError, match="3 is a int: lint a torch"):
        lint(3)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="has no shape yet: the module is lazy"):
        lint(nn.LazyLinear(2))
    with pytest.raises(InputError):
        lint(nn.Linear(2, 2), (1, 3))
    with pytest.raises(ValueError, match="severity='bad' is not one of error, warning, note"):
        sz.Finding("r", "bad", "w", "m")  # type: ignore[arg-type]
