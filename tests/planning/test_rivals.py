"""Rivals: what the usual recipes would make of a net, told from the net alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from stepzero.laws import Kaiming, Normal
from stepzero.moments import RULES
from stepzero.network import ModelInputs, capture
from stepzero.planning import GOALS, plan
from stepzero.planning._descent import Problem, Reach
from stepzero.planning._draft import Draft, begin
from stepzero.planning._policies import read_policies
from stepzero.planning._rivals import best, rivals

BALANCED = GOALS["balanced"]


def draft_of(net: nn.Module, shape: tuple[int, ...], overrides=None) -> Draft:
    call = ModelInputs.of(shape, net)
    graph = capture(net, call)
    return begin(net, call, graph, overrides, read_policies(None, "unit"), RULES, "probe", {}, BALANCED)


def strided() -> nn.Sequential:
    layers = [
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
    ]
    return nn.Sequential(*layers)


def by_torch(net: nn.Module, *, fan: int = 0, scale: float = 2.0) -> list[tuple[str, Normal]]:
    pairs = [(n, nn.init._calculate_fan_in_and_fan_out(p)) for n, p in net.named_parameters() if p.dim() > 1]
    return [(name, Normal(math.sqrt(scale / fans[fan]))) for name, fans in pairs]


def test_rivals_are_what_a_plan_with_the_laws_of_torch_predicts():
    net, shape = strided(), (2, 3, 16, 16)
    draft = draft_of(net, shape)
    walked = draft.walk()
    found = rivals(draft, Problem.of(draft, BALANCED, walked), walked)
    rows = [by_torch(net), by_torch(net, fan=1), by_torch(net, scale=1 / 3)]
    for reach, laws in zip(found, rows, strict=True):
        entries = [e for e in plan(net, shape, overrides=laws).entries if e.fan_in]
        assert reach.signal == pytest.approx(max(abs(math.log(e.second_moment)) for e in entries), rel=1e-9)
        ratio = entries[0].gradient_second_moment / entries[-1].gradient_second_moment
        assert reach.gradient == pytest.approx(abs(math.log(ratio)), rel=1e-9)


def test_the_levels_of_a_rival_give_its_laws():
    net = strided()
    draft = draft_of(net, (2, 3, 16, 16))
    walked = draft.walk()
    levels = next(iter(rivals(draft, Problem.of(draft, BALANCED, walked), walked).values()))
    scales = draft.walk(levels).chooser.scales
    for name, law in by_torch(net):
        assert scales[name] == pytest.approx(law.variance, rel=1e-9)


def test_what_the_user_decided_stays_under_every_rival():
    net = strided()
    recipe = Kaiming(mode="fan_in", a=3.0)
    draft = draft_of(net, (2, 3, 16, 16), [("2.weight", recipe)])
    walked = draft.walk()
    problem = Problem.of(draft, BALANCED, walked)
    assert problem.names == ("0.weight", "4.weight")
    for levels in rivals(draft, problem, walked).values():
        assert draft.walk(levels).chooser.scales["2.weight"] == walked.chooser.scales["2.weight"]


def test_a_recipe_that_explodes_is_no_rival():
    class Steep(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self:
                x = layer(x * 1e20)
            return x

    draft = draft_of(Steep(*(nn.Linear(4, 4) for _ in range(9))), (2, 4))  # 1e40 a layer, and doubles end at 1e308
    walked = draft.walk()
    assert rivals(draft, Problem.of(draft, BALANCED, walked), walked) == {}


def test_the_best_of_none_is_met_by_all():
    assert Reach(5.0, 9.0).share(best([])) == 0.0
    assert best([Reach(1.0, 4.0), Reach(2.0, 3.0)]) == Reach(1.0, 3.0)


def test_a_share_is_the_larger_of_both_and_does_not_tell_a_hundredth_from_nothing():
    assert Reach(1.0, 3.0).share(Reach(2.0, 2.0)) == 1.5
    assert Reach(1.0, 0.009).share(Reach(2.0, 0.0)) == pytest.approx(0.9)
    assert Reach(1.0, 3.0).uneven(Reach(2.0, 2.0)) == 1.0
