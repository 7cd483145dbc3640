"""Rules about fans: a scale that was right for another fan is found with both numbers, and nothing beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from stepzero.checking import LINTS, lint

from .lints import Case, changed, prove, rules_of


def depthwise(mode: str) -> nn.Module:
    conv = nn.Conv2d(512, 512, 7, groups=512, bias=False)
    return changed(conv, lambda c: nn.init.kaiming_normal_(c.weight, mode=mode, nonlinearity="relu"))


def up(kernel: int, stride: int, fan: float | None = None) -> nn.Module:
    conv = nn.ConvTranspose2d(256, 32, kernel, stride=stride, bias=False)
    return conv if fan is None else changed(conv, lambda c: nn.init.normal_(c.weight, std=math.sqrt(2 / fan)))


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


def attention(*, packed: bool) -> nn.Module:
    layer = nn.MultiheadAttention(128, 4)
    if not packed:
        for part in layer.in_proj_weight.chunk(3):
            nn.init.xavier_uniform_(part)
    return layer


CASES = (
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
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "values"])
def test_a_rule_finds_what_it_was_written_for_and_nothing_beside_it(case, recorded):
    prove(case, recorded=recorded)


def test_every_rule_of_this_file_has_a_case():
    assert [case.rule for case in CASES] == rules_of("_lint_fans")


def torchvision(name: str) -> Callable[[], nn.Module]:
    from stepzero.network import import_torchvision

    return getattr(import_torchvision().models, name)


@pytest.mark.parametrize(
    ("name", "worst"), [("mobilenet_v2", 31.0), ("mnasnet1_0", 34.0), ("resnext50_32x4d", math.sqrt(32))]
)
def test_depthwise_layers_of_torchvision_are_off_by_the_factors_that_were_measured(name, worst):
    found = lint(torchvision(name), rules={"grouped-fan": LINTS["grouped-fan"]})
    assert max(1 / f.evidence["ratio"] for f in found) == pytest.approx(worst, rel=0.02)
