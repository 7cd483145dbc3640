"""Rules about the predicted signal: what vanishes, explodes, blurs, grows or never learns is found from shapes alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stepzero.checking import LINTS, lint

from .lints import Case, changed, kaiming, prove, rules_of, stack


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


CASES = (
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "values"])
def test_a_rule_finds_what_it_was_written_for_and_nothing_beside_it(case, recorded):
    prove(case, recorded=recorded)


def test_every_rule_of_this_file_has_a_case():
    assert [case.rule for case in CASES] == rules_of("_lint_signal")


def test_a_model_of_which_nothing_is_known_is_not_blamed_for_its_signal() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        found = lint(model, (2, 64))
    assert not list(found)
    assert "nothing recorded their init" in str(found)


@pytest.mark.parametrize("tail", [(), (nn.Unflatten(1, (2, 5)),)])
def test_a_head_may_start_as_small_as_its_author_likes(tail):
    def net(head: float, body: float) -> nn.Module:
        layers = changed(nn.Linear(64, 64), lambda m: nn.init.normal_(m.weight, std=body)), nn.ReLU()
        return nn.Sequential(*layers, changed(nn.Linear(64, 10), lambda m: nn.init.normal_(m.weight, std=head)), *tail)

    rules = {"signal-scale": LINTS["signal-scale"]}
    assert not list(lint(lambda: net(1e-5, 0.125), (2, 64), rules=rules))
    assert [f.where for f in lint(lambda: net(1e3, 0.125), (2, 64), rules=rules)] == ["2.weight"]


class Dense(nn.Module):
    """Each layer's features, scaled to a whisper, stand beside what it read."""

    def __init__(self, *, beside: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(changed(nn.Linear(64 * (i + 1) if beside else 64, 64), kaiming) for i in range(3))
        self.head, self.beside = changed(nn.Linear(256 if beside else 64, 64), kaiming), beside

    def forward(self, x):
        for layer in self.layers:
            y = 1e-6 * torch.relu(layer(x))
            x = torch.cat([x, y], -1) if self.beside else y
        return self.head(x)


def test_quiet_layers_of_a_dense_net_hide_no_gradient_from_what_stands_beside_them():
    rules = {"gradient-scale": LINTS["gradient-scale"]}
    assert not list(lint(lambda: Dense(beside=True), (2, 64), rules=rules))
    assert list(lint(lambda: Dense(beside=False), (2, 64), rules=rules))
