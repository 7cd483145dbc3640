"""check(): a correct model passes at the stated rate, a wrong one is found and named, and nothing is left behind."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binom
from torch import nn

from stepzero.checking import check
from stepzero.errors import CheckError, InputError
from stepzero.planning import plan


def mlp(depth: int, width: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(20 if i == 0 else width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def convs(depth: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(3 if i == 0 else width, width, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def drawn(net: nn.Module, x: torch.Tensor, seed: int):
    made = plan(net, x)
    made.apply_(net, seed=seed)
    return made


def batch(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_correct_nets_fail_no_more_often_than_stated():
    cases = [(mlp(10, 64), batch(8, 20)), (mlp(5, 32, nn.Tanh), batch(4, 20)), (convs(6, 32), batch(2, 3, 8, 8))]
    runs, alarms = 0, 0
    for net, x in cases:
        made = plan(net, x)
        for seed in range(20):
            made.apply_(net, seed=seed)
            alarms += not check(net, x, made, backward=False, false_alarms=0.05).ok
            runs += 1
    assert alarms <= binom.isf(1e-4, runs, 0.05)  # a right check trips this once in 10 000 suites


@pytest.mark.parametrize("seed", range(5))
def test_a_weight_scaled_by_a_quarter_is_found_and_named(seed):
    net, x = mlp(6, 256), batch(16, 20)
    made = drawn(net, x, seed)
    with torch.no_grad():
        net[4].weight.mul_(1.25)
    found = check(net, x, made, backward=False)
    bad = [row for row in found.rows if not row.ok]
    assert bad[0].name == "4.weight"
    assert "scale is off" in bad[0].message
    assert all("though its own weight is as planned" in row.message for row in bad[1:])  # what follows from it
    assert bad[0].local_measured / bad[0].local_predicted == pytest.approx(1.25**2, rel=0.3)
    assert "4.weight" in found.verdict


def test_gradients_are_as_predicted_per_unit_of_output_gradient():
    net, x = mlp(6, 256), batch(64, 20)
    for row in check(net, x, drawn(net, x, 1)).rows:
        assert row.gradient_measured == pytest.approx(row.gradient_predicted, rel=0.35)


def test_inputs_that_collapse_are_told_although_the_rms_holds():
    net, x = mlp(20, 64), batch(16, 20)
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=torch.Generator().manual_seed(3))
                layer.bias.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(4))
    found = check(net, x)
    assert not found.ok
    assert any("collapsed" in row.message for row in found.rows)
    assert found.rows[-1].measured > 1e-4  # the bias keeps it up


def test_several_draws_are_measured_without_touching_the_model():
    net, x = mlp(4, 64), batch(8, 20)
    made = plan(net, x)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = check(net, x, made, draws=8)
    assert found.ok
    assert found.draws == 8
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    for row in found.rows:
        assert row.ratio == pytest.approx(1, rel=0.5)


def test_model_mode_buffers_gradients_and_random_state_are_as_they_were():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(288, 4)
    )
    x = batch(4, 3, 8, 8)
    made = drawn(net, x, 0)
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    found = check(net, x, made)
    assert found.ok, found.verdict
    assert not found.notes  # the graph did what the model does, dropout included
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert net.training


def test_a_check_is_a_value_that_can_be_stored_and_shown():
    net, x = mlp(2, 16), batch(4, 20)
    found = check(net, x, drawn(net, x, 0))
    assert found.to_dict()["rows"][0]["name"] == "0.weight"
    assert "As predicted" in str(found)
    assert "0.weight" in found.to_markdown()
    assert "<table" in found.to_html()


def test_a_model_without_values_is_refused():
    with torch.device("meta"):
        net = mlp(2, 16)
    with pytest.raises(CheckError, match=r"on the meta device .*Materialise"):
        check(net, (4, 20))


def test_an_activation_that_overflows_is_named_with_its_place():
    net = mlp(3, 16)
    with torch.no_grad():
        net[0].weight.mul_(1e20)
        net[2].weight.mul_(1e20)
    with pytest.raises(CheckError, match=r"linear \(at 2\) puts out values that are not finite"):
        check(net, (4, 20))


def test_a_parameter_that_is_not_finite_is_named():
    net = mlp(3, 16)
    with torch.no_grad():
        net[2].weight.fill_(math.inf)
    with pytest.raises(CheckError, match=r"2\.weight has values that are not finite"):
        check(net, (4, 20))


@pytest.mark.parametrize(
    ("options", "error"), [({"draws": 0}, CheckError), ({"draws": 3}, CheckError), ({"inputs": (4, 21)}, InputError)]
)
def test_bad_calls_are_refused(options, error):
    inputs = options.pop("inputs", (4, 20))
    with pytest.raises(error):
        check(mlp(2, 16), inputs, **options)


def test_depthwise_layers_scatter_as_few_weights_do():
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 1)]
    for _ in range(4):
        layers += [nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.Conv2d(32, 32, 1), nn.ReLU()]
    net, x = nn.Sequential(*layers), batch(4, 3, 12, 12)
    made = plan(net, x)
    alarms = 0
    for seed in range(30):
        made.apply_(net, seed=seed)
        alarms += not check(net, x, made, backward=False, false_alarms=0.05).ok
    assert alarms <= binom.isf(1e-4, 30, 0.05)


def test_a_buffer_without_numbers_is_named_before_anything_runs():
    net = mlp(2, 16)
    net.register_buffer("mask", torch.ones(3, device="meta"))
    with pytest.raises(CheckError, match=r"mask …\) and have no values"):
        check(net, (4, 20))
