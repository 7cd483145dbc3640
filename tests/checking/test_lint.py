"""lint(): every rule finds what it was written for, at its place, and is silent beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import stepzero as sz
from stepzero.checking import LINTS, Lint, Spot, lint
from stepzero.errors import CheckError, InputError, ModelError


class Case(NamedTuple):
    """What a rule must find, and what it must leave alone."""

    rule: str
    wrong: Callable[[], nn.Module]
    where: str
    right: Callable[[], nn.Module]
    inputs: Any = None
    severity: str = "warning"
    evidence: dict[str, float] | None = None  # checked to 1 %


def changed(layer: nn.Module, change: Callable[[nn.Module], Any]) -> nn.Module:
    with torch.no_grad():
        change(layer)
    return layer


def depthwise(mode: str) -> nn.Module:
    conv = nn.Conv2d(512, 512, 7, groups=512, bias=False)
    return changed(conv, lambda c: nn.init.kaiming_normal_(c.weight, mode=mode, nonlinearity="relu"))


def up(kernel: int, stride: int, fan: float | None = None) -> nn.Module:
    conv = nn.ConvTranspose2d(256, 32, kernel, stride=stride, bias=False)
    return conv if fan is None else changed(conv, lambda c: nn.init.normal_(c.weight, std=math.sqrt(2 / fan)))


def stack(layers: int, width: int, draw: Callable[[nn.Linear], Any], act: type[nn.Module] = nn.ReLU) -> nn.Module:
    made: list[nn.Module] = []
    for _ in range(layers):
        made += [changed(nn.Linear(width, width, bias=False), draw), act()]
    return nn.Sequential(*made, nn.Linear(width, width, bias=False))


def kaiming(layer: nn.Linear) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


class Experts(nn.Module):
    """Eight experts in one tensor [experts, in, out]."""

    def __init__(self, draw: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(8, 512, 256))
        draw(self.w)

    def forward(self, x):
        return torch.einsum("ebi,eio->ebo", x, self.w)


class Conv1D(nn.Module):
    """GPT-2's linear layer: weight [in, out]."""

    def __init__(self, draw: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(128, 384))
        draw(self.weight)

    def forward(self, x):
        return x @ self.weight


class Tied(nn.Module):
    """A head that is the embedding."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(1000, 512), nn.Linear(512, 1000, bias=False)
        nn.init.normal_(self.embed.weight, std=std)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.embed(ids))


class Residual(nn.Module):
    """Branches on a stream without normalisation."""

    def __init__(self, last: float) -> None:
        super().__init__()
        self.first = nn.ModuleList(changed(nn.Linear(64, 64, bias=False), kaiming) for _ in range(8))
        self.last = nn.ModuleList(changed(nn.Linear(64, 64, bias=False), kaiming) for _ in range(8))
        for layer in self.last:
            changed(layer, lambda m: m.weight.mul_(last))

    def forward(self, x):
        for a, b in zip(self.first, self.last, strict=True):
            x = x + b(torch.relu(a(torch.relu(x))))
        return x


class LowRank(nn.Module):
    """LoRA's two factors."""

    def __init__(self, *, both: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(32, 4, bias=False), nn.Linear(4, 32, bias=False)
        nn.init.zeros_(self.b.weight)
        if both:
            nn.init.zeros_(self.a.weight)

    def forward(self, x):
        return x + self.b(self.a(x))


class Unused(nn.Module):
    """A layer that nobody calls."""

    def __init__(self, *, used: bool) -> None:
        super().__init__()
        self.a, self.b, self.used = nn.Linear(8, 8), nn.Linear(8, 8), used

    def forward(self, x):
        return self.b(self.a(x)) if self.used else self.a(x)


class Empty(nn.Module):
    """A parameter of torch.empty."""

    def __init__(self, *, written: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(16, 16))
        if written:
            nn.init.ones_(self.scale)


def parametrised(*, first: bool) -> nn.Module:
    layer = nn.Linear(64, 64)
    if first:
        nn.init.kaiming_normal_(layer.weight)
    layer = parametrizations.weight_norm(layer)
    if not first:
        nn.init.kaiming_normal_(layer.weight)
    return layer


def attention(*, packed: bool) -> nn.Module:
    layer = nn.MultiheadAttention(128, 4)
    if not packed:
        for part in layer.in_proj_weight.chunk(3):
            nn.init.xavier_uniform_(part)
    return layer


def gates(*, packed: bool) -> nn.Module:
    cell = nn.LSTM(32, 32)
    for part in [cell.weight_hh_l0] if packed else cell.weight_hh_l0.chunk(4):
        nn.init.orthogonal_(part)
    return cell


def forgetful(value: float) -> nn.Module:
    return changed(nn.LSTM(8, 16), lambda cell: (cell.bias_ih_l0[16:32].fill_(value), cell.bias_hh_l0.zero_()))


def blocks(*, equal: bool) -> nn.Module:
    layer = nn.Linear(32, 32)
    return changed(layer, lambda m: m.weight[16:].copy_(m.weight[:16])) if equal else layer


def two(*, alike: bool) -> nn.Module:
    net = nn.Sequential(nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False))
    return changed(net, lambda n: n[1].weight.copy_(n[0].weight)) if alike else net


class Modulated(nn.Module):
    """An adaptive norm's modulation."""

    def __init__(self, *, zero: bool) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(32, 192))
        if zero:
            nn.init.zeros_(self.adaLN_modulation[1].weight)


def normal_everywhere(*, norms: bool) -> nn.Module:
    net = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64))
    for parameter in net.parameters() if norms else net[0].parameters():
        nn.init.normal_(parameter, std=0.02)
    return net


CASES = (
    Case("unwritten", lambda: Empty(written=False), "scale", lambda: Empty(written=True), severity="error"),
    Case(
        "not-finite",
        lambda: changed(nn.Linear(4, 4), lambda m: m.weight[0].fill_(math.nan)),
        "weight",
        lambda: nn.Linear(4, 4),
        severity="error",
    ),
    Case("lost-init", lambda: parametrised(first=False), "test_lint.py", lambda: parametrised(first=True), severity="error"),
    Case(
        "copies",
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 2, 64), 2, enable_nested_tensor=False),
        "layers.1.self_attn.in_proj_weight",
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 2, 64), 1, enable_nested_tensor=False),
    ),
    Case("equal-blocks", lambda: blocks(equal=True), "weight", lambda: blocks(equal=False), severity="error"),
    Case(
        "truncation",
        lambda: changed(nn.Linear(64, 64), lambda m: nn.init.trunc_normal_(m.weight, std=0.02)),
        "weight",
        lambda: changed(nn.Linear(64, 64), lambda m: nn.init.trunc_normal_(m.weight, std=0.02, a=-0.07, b=0.07)),
        severity="note",
    ),
    Case(
        "underflow",
        lambda: changed(nn.Linear(64, 64), lambda m: nn.init.normal_(m.weight, std=1e-5)).half(),
        "weight",
        lambda: nn.Linear(64, 64).half(),
    ),
    Case(
        "complex-uniform",
        lambda: nn.Linear(64, 64, dtype=torch.complex64),
        "weight",
        lambda: changed(nn.Linear(64, 64, dtype=torch.complex64), lambda m: m.weight.div_(math.sqrt(2))),
        evidence={"second": 2 / (3 * 64)},
    ),
    Case(  # pytorch#23854: (49, 25088) instead of (49, 49), √512 too small
        "grouped-fan",
        lambda: depthwise("fan_out"),
        "weight",
        lambda: depthwise("fan_in"),
        evidence={"ratio": 1 / math.sqrt(512), "fan_out": 49, "seen_fan_out": 25088},
    ),
    Case(  # true fan 256·16/4 = 1024; torch reads 32·16 = 512
        "transposed-fan",
        lambda: up(4, 2),
        "weight",
        lambda: up(4, 2, fan=1024),
        severity="note",
        evidence={"ratio": math.sqrt(2), "fan_in": 1024, "seen_fan_in": 512},
    ),
    Case(
        "packed-fan",
        lambda: attention(packed=True),
        "in_proj_weight",
        lambda: attention(packed=False),
        severity="note",
        evidence={"ratio": 1 / math.sqrt(2)},
    ),
    Case(
        "stacked-fan",
        lambda: Experts(nn.init.kaiming_normal_),
        "w",
        lambda: Experts(lambda w: nn.init.normal_(w, std=math.sqrt(2 / 512))),
        evidence={"ratio": 1 / math.sqrt(256)},
    ),
    Case(  # reads 384 rows as outputs and 128 as inputs, transposed
        "input-first",
        lambda: Conv1D(nn.init.kaiming_normal_),
        "weight",
        lambda: Conv1D(lambda w: nn.init.normal_(w, std=math.sqrt(2 / 128))),
        evidence={"ratio": math.sqrt(128 / 384)},
    ),
    Case("bilinear-fan", lambda: nn.Bilinear(512, 512, 8), "weight", lambda: changed(nn.Bilinear(64, 64, 8), lambda m: m.weight.div_(8)), evidence={"gain": math.sqrt(512 / 3)}),
    Case("checkerboard", lambda: up(3, 2), "weight", lambda: up(4, 2), severity="note", evidence={"spread": 4.0}),
    Case("default-init", lambda: stack(5, 64, lambda layer: None), "2.weight", lambda: stack(5, 64, kaiming), evidence={"local_gain": 1 / 6}),
    Case(
        "wrong-gain",
        lambda: stack(6, 256, kaiming, nn.GELU),
        "2.weight",
        lambda: stack(6, 256, kaiming, nn.ReLU),
        evidence={"local_gain": 2 / 1.5335304412**2},
    ),
    Case(
        "random-bias",
        lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)),
        "0.bias",
        lambda: nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)),
        severity="note",
    ),
    Case(
        "padding-row",
        lambda: changed(nn.Embedding(50, 16, padding_idx=3), lambda m: nn.init.normal_(m.weight, std=0.02)),
        "weight",
        lambda: nn.Embedding(50, 16, padding_idx=3),
    ),
    Case("tied-embedding", lambda: Tied(1.0), "embed.weight", lambda: Tied(0.02), evidence={"logit_std": math.sqrt(512)}),
    Case("forget-bias", lambda: nn.LSTM(8, 16), "the root", lambda: forgetful(1.0), severity="note"),
    Case("recurrent-scale", lambda: nn.LSTM(4096, 64), "weight_ih_l0", lambda: nn.LSTM(64, 64), evidence={"variance": 4096 / (3 * 64)}),
    Case("packed-orthogonal", lambda: gates(packed=True), "weight_hh_l0", lambda: gates(packed=False)),
    Case("modulation", lambda: Modulated(zero=False), "adaLN_modulation.1.weight", lambda: Modulated(zero=True), severity="note"),
    Case("norm-scale", lambda: normal_everywhere(norms=True), "1.weight", lambda: normal_everywhere(norms=False)),
    Case("unused", lambda: Unused(used=False), "b.weight", lambda: Unused(used=True), (2, 8), "note"),
    Case("signal-scale", lambda: stack(20, 64, lambda layer: None), "10.weight", lambda: stack(20, 64, kaiming), (2, 64), "error"),
    Case("gradient-scale", lambda: stack(20, 64, lambda layer: None), "28.weight", lambda: stack(20, 64, kaiming), (2, 64), "error"),
    Case(
        "collapse",
        lambda: nn.Sequential(*(layer for _ in range(20) for layer in (nn.Linear(64, 64), nn.ReLU())), nn.Linear(64, 64)),
        "40.weight",
        lambda: stack(20, 64, kaiming),
        (2, 64),
        "error",
    ),
    Case("residual-growth", lambda: Residual(1.0), "the root", lambda: Residual(0.25), (2, 64)),
    Case("loud-head", lambda: changed(nn.Linear(64, 10), lambda m: nn.init.normal_(m.weight)), "weight", lambda: nn.Linear(64, 10), (2, 64), evidence={"second_moment": 64}),
    Case("stuck", lambda: LowRank(both=True), "b.weight", lambda: LowRank(both=False), (2, 32), "error"),
    Case("overflow", lambda: changed(nn.Linear(64, 64), lambda m: nn.init.normal_(m.weight, std=3000.0)).half(), "weight", lambda: nn.Linear(64, 64).half(), {"args": (torch.zeros(2, 64, dtype=torch.float16) + 1,)}, "error"),
)  # fmt: skip
RECORDS_ONLY = {"lost-init", "truncation"}  # values do not tell
VALUES_ONLY = {"not-finite", "equal-blocks", "complex-uniform"}  # a law does not tell


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "values"])
def test_a_rule_finds_what_it_was_written_for_and_nothing_beside_it(case, recorded):
    if case.rule in (VALUES_ONLY if recorded else RECORDS_ONLY):
        recorded = not recorded
    torch.manual_seed(0)
    wrong, right = (f if recorded else f() for f in (case.wrong, case.right))
    if case.rule == "unwritten" and not recorded:
        changed(wrong, lambda m: m.scale.fill_(1e-40))  # what freed memory looks like, on every machine
    rules = {case.rule: LINTS[case.rule]}
    found = lint(wrong, case.inputs, rules=rules)
    assert len(found) >= 1, found
    assert case.where in found[0].where
    assert found[0].severity == case.severity
    for name, value in (case.evidence or {}).items():
        assert found[0].evidence[name] == pytest.approx(value, rel=0.01 if recorded else 0.1), name
    assert found[0].message
    assert found[0].fix
    assert not list(lint(right, case.inputs, rules=rules))


def test_every_rule_has_a_case_and_a_source():
    assert [case.rule for case in CASES] == list(LINTS)
    assert all(rule.about for rule in LINTS.values())
    assert all(rule.source for rule in LINTS.values())


def torchvision(name: str) -> Callable[[], nn.Module]:
    from stepzero.network import import_torchvision

    return getattr(import_torchvision().models, name)


def timm(name: str) -> Callable[[], nn.Module]:
    from stepzero.network import import_torchvision

    import_torchvision()  # timm imports it
    import timm as library

    return lambda: library.create_model(name)


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


@pytest.mark.parametrize(
    ("name", "worst"), [("mobilenet_v2", 31.0), ("mnasnet1_0", 34.0), ("resnext50_32x4d", math.sqrt(32))]
)
def test_depthwise_layers_of_torchvision_are_off_by_the_factors_that_were_measured(name, worst):
    found = lint(torchvision(name), rules={"grouped-fan": LINTS["grouped-fan"]})
    assert max(1 / f.evidence["ratio"] for f in found) == pytest.approx(worst, rel=0.02)


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


def test_a_hooked_weight_that_was_drawn_anew_is_found_by_its_values():
    with pytest.warns(FutureWarning, match="weight_norm"):
        layer = nn.utils.weight_norm(nn.Linear(16, 16))
    assert not list(lint(layer, rules={"lost-init": LINTS["lost-init"]}))
    nn.init.normal_(layer.weight)
    (found,) = lint(layer, rules={"lost-init": LINTS["lost-init"]})
    assert (found.where, found.severity) == ("weight", "error")
    assert found.evidence["std"] == pytest.approx(1.0, rel=0.2)
    assert found.evidence["std_in_effect"] == pytest.approx(0.25 / math.sqrt(3), rel=0.2)


def test_shortened_truncation_is_told_with_its_share():
    found = lint(lambda: changed(nn.Linear(32, 32), lambda m: nn.init.trunc_normal_(m.weight)))  # ±2 at std 1
    (spot,) = [f for f in found if f.rule == "truncation"]
    assert spot.evidence["share"] == pytest.approx(0.8796, abs=1e-4)


def test_a_tied_head_that_rescales_is_not_loud_once_inputs_show_it():
    class Rescaled(Tied):
        def forward(self, ids):
            return self.head(nn.functional.layer_norm(self.embed(ids), (512,)) / math.sqrt(512))

    ids = torch.zeros(2, 3, dtype=torch.int64)
    rules = {"tied-embedding": LINTS["tied-embedding"]}
    assert len(lint(lambda: Rescaled(1.0), rules=rules)) == 1
    assert not list(lint(lambda: Rescaled(1.0), ids, rules=rules))
    (loud,) = lint(lambda: Tied(1.0), ids, rules=rules)
    assert loud.severity == "error"


def test_a_model_of_which_nothing_is_known_is_not_blamed_for_its_signal() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        found = lint(model, (2, 64))
    assert not list(found)
    assert "nothing recorded their init" in str(found)
