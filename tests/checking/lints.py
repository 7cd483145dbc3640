"""What the tests of lint rules share: a rule's case, and the proof that it speaks there and is silent beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from stepzero.checking import LINTS, lint

RECORDS_ONLY = {"lost-init", "truncation"}  # values do not tell
VALUES_ONLY = {"not-finite", "equal-blocks", "complex-uniform"}  # a law does not tell


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


def stack(layers: int, width: int, draw: Callable[[nn.Linear], Any], act: type[nn.Module] = nn.ReLU) -> nn.Module:
    made: list[nn.Module] = []
    for _ in range(layers):
        made += [changed(nn.Linear(width, width, bias=False), draw), act()]
    return nn.Sequential(*made, nn.Linear(width, width, bias=False))


def kaiming(layer: nn.Linear) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def rules_of(file: str) -> list[str]:
    """Return the rules that a file of the source defines, in the order in which lint asks them."""
    return [name for name, rule in LINTS.items() if rule.find.__module__.endswith(f".{file}")]


def prove(case: Case, *, recorded: bool) -> None:
    """Assert that the rule finds the wrong model at its place with its numbers, and is silent about the right one."""
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
