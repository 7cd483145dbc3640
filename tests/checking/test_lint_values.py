"""Rules about values: what is missing, broken, repeated, cut or rounded away is found, and nothing beside it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from stepzero.checking import LINTS, lint

from .lints import Case, changed, prove, rules_of


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


def blocks(*, equal: bool) -> nn.Module:
    layer = nn.Linear(32, 32)
    return changed(layer, lambda m: m.weight[16:].copy_(m.weight[:16])) if equal else layer


CASES = (
    Case("unwritten", lambda: Empty(written=False), "scale", lambda: Empty(written=True), severity="error"),
    Case(
        "not-finite",
        lambda: changed(nn.Linear(4, 4), lambda m: m.weight[0].fill_(math.nan)),
        "weight",
        lambda: nn.Linear(4, 4),
        severity="error",
    ),
    Case("lost-init", lambda: parametrised(first=False), "test_lint_values.py", lambda: parametrised(first=True), severity="error"),
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
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "values"])
def test_a_rule_finds_what_it_was_written_for_and_nothing_beside_it(case, recorded):
    prove(case, recorded=recorded)


def test_every_rule_of_this_file_has_a_case():
    assert [case.rule for case in CASES] == rules_of("_lint_values")


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


def test_a_truncation_by_the_inverse_error_function_tells_how_many_values_lie_on_its_bound():
    def by_erfinv(layer):
        layer.weight.uniform_(-1, 1).erfinv_().mul_(0.02 * math.sqrt(2)).clamp_(-2, 2)

    for dtype, expected in ((torch.float32, 64 * 64 / 2**24), (torch.float64, None)):
        found = lint(lambda dtype=dtype: changed(nn.Linear(64, 64, dtype=dtype), by_erfinv))
        (spot,) = [f for f in found if f.rule == "truncation"]
        assert spot.evidence.get("expected_at_bound") == expected
        assert ("erfinv" in spot.message) is (expected is not None)
