"""Real runs of a captured model: as it stands, or drawn again and again without touching it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from stepzero.checking import check
from stepzero.checking._check import _site
from stepzero.checking._runs import run_draws
from stepzero.laws import Kept
from stepzero.moments import propagate, weight_sites
from stepzero.network import ModelInputs, capture
from stepzero.planning import plan


def runs_of(net: nn.Module, x: torch.Tensor, *, draws: int, seed: int = 3, **options):
    made = plan(net, x, **options)
    call = ModelInputs.of(x, net)
    graph = capture(net, call)
    moments = {n: (p.detach().double().mean(), p.detach().double().square().mean()) for n, p in net.named_parameters()}
    flow = propagate(graph, {}, moments)
    sites = [_site(flow, *found) for found in weight_sites(flow)]
    runs, notes = run_draws(net, graph, call, made, sites, draws, seed, backward=False)
    return [[run[site.node.id].second for site in sites] for run in runs], notes, made


def small() -> tuple[nn.Sequential, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)), torch.randn(4, 16)


def test_each_draw_is_that_of_its_seed_and_the_model_keeps_its_values():
    net, x = small()
    before = {name: p.clone() for name, p in net.named_parameters()}
    found, notes, made = runs_of(net, x, draws=2)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert notes == ()
    for measured, seed in zip(found, (3, 4), strict=True):
        made.apply_(net, seed=seed)
        (own,), _, _ = runs_of(net, x, draws=1)
        assert own == measured


def test_what_a_plan_keeps_has_the_model_s_values_in_every_draw():
    net, x = small()
    found, _, _ = runs_of(net, x, draws=2, overrides=[("0.*", Kept())])
    first = float(net[0](x).detach().double().square().mean())
    assert abs(found[0][0] - first) < 1e-6
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]


class Restless(nn.Linear):
    """A forward pass that counts outside of the model: the second call is another function than the first."""

    calls: ClassVar[list[int]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append(1)
        return super().forward(x) * len(self.calls)


def test_a_model_that_does_not_do_what_was_recorded_is_told():
    torch.manual_seed(0)
    notes = check(Restless(4, 4), torch.randn(4, 4)).notes
    assert any(note.startswith("the model's own forward pass differs from the recorded graph") for note in notes)


def test_buffers_are_as_they_were_after_the_model_s_own_run():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    before = {name: b.clone() for name, b in net.named_buffers()}
    assert check(net, torch.randn(8, 4)).notes == ()
    assert all(torch.equal(b, before[name]) for name, b in net.named_buffers())
