"""Rules about single layers: a gain for another activation and values that a kind of layer does not start from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from stepzero.checking import LINTS, lint

from .lints import Case, changed, kaiming, prove, rules_of, stack


class Tied(nn.Module):
    """A head that is the embedding."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(1000, 512), nn.Linear(512, 1000, bias=False)
        nn.init.normal_(self.embed.weight, std=std)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.embed(ids))


def gates(*, packed: bool) -> nn.Module:
    cell = nn.LSTM(32, 32)
    for part in [cell.weight_hh_l0] if packed else cell.weight_hh_l0.chunk(4):
        nn.init.orthogonal_(part)
    return cell


def forgetful(value: float) -> nn.Module:
    return changed(nn.LSTM(8, 16), lambda cell: (cell.bias_ih_l0[16:32].fill_(value), cell.bias_hh_l0.zero_()))


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
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "values"])
def test_a_rule_finds_what_it_was_written_for_and_nothing_beside_it(case, recorded):
    prove(case, recorded=recorded)


def test_every_rule_of_this_file_has_a_case():
    assert [case.rule for case in CASES] == rules_of("_lint_layers")


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
