"""plan(): laws from the signal, for nets whose answer is known in closed form or by measurement."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stepzero.errors import InputError, ModelError, NoRuleError, PlanError
from stepzero.laws import Constant, Kaiming, Kept, Normal, Orthogonal
from stepzero.planning import plan


def circular(channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, padding_mode="circular")


class Residual(nn.Module):
    def __init__(self, blocks: int, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.inner = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.outer = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for inner, outer in zip(self.inner, self.outer, strict=True):
            x = x + outer(torch.relu(inner(torch.relu(x))))
        return x


@given(st.integers(1, 6), st.integers(2, 40), st.sampled_from([1, 3, 5]), st.floats(0.0, 0.9))
@settings(max_examples=12, deadline=None)
def test_a_plain_stack_without_borders_gets_kaiming_to_the_letter(depth, channels, kernel, slope):
    layers: list[nn.Module] = [circular(channels, kernel)]
    for _ in range(depth):
        layers += [nn.LeakyReLU(slope), circular(channels, kernel)]
    made = plan(nn.Sequential(*layers), (1, channels, 8, 8))
    fan = channels * kernel**2
    assert made["0.weight"].law.std == pytest.approx(math.sqrt(1 / fan), rel=1e-6)
    for i in range(2, 2 * depth + 1, 2):
        assert made[f"{i}.weight"].law.std == pytest.approx(math.sqrt(2 / (1 + slope**2) / fan), rel=1e-6)


def test_the_first_layer_counts_the_inputs_own_moments():
    net = nn.Sequential(nn.Linear(10, 5))
    white = plan(net, (4, 10))["0.weight"].law.std
    loud = plan(net, 3.0 * torch.ones(4, 10))["0.weight"].law.std
    assert white == pytest.approx(3.0 * loud)


def test_zero_borders_are_counted_at_the_maps_own_size():
    net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False))
    assert plan(net, (1, 4, 2, 2))["0.weight"].fan_in == pytest.approx(4 * 4)  # each output of a 2×2 map sees 4 taps
    assert plan(net, (1, 4, 1, 1))["0.weight"].fan_in == pytest.approx(4)


def test_fan_out_counts_what_one_input_reaches():
    patch = nn.Conv2d(3, 32, 16, stride=16, bias=False)
    assert plan(nn.Sequential(patch), (1, 3, 64, 64))["0.weight"].fan_out == pytest.approx(32)  # torch says 8192


def test_biases_are_zero_norms_start_pure_and_other_parameters_stay():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.PReLU()
            self.offset = nn.Parameter(torch.full((8, 1, 1), 0.3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(self.norm(self.conv(x))) + self.offset

    made = plan(Net(), (2, 3, 8, 8))
    laws = {name: entry.law for name, entry in made.items()}
    assert laws["conv.bias"] == laws["norm.bias"] == Constant(0.0)
    assert laws["norm.weight"] == Constant(1.0)
    assert laws["act.weight"] == laws["offset"] == Kept()
    assert any("keep their values" in note for note in made.notes)


@pytest.mark.parametrize("blocks", [1, 4, 16])
def test_a_residual_stream_without_norm_grows_from_one_to_two_at_any_depth(blocks):
    made = plan(Residual(blocks), (1, 3, 8, 8))
    for i in range(blocks):
        assert made[f"outer.{i}.weight"].second_moment == pytest.approx(1 / blocks)
        assert made[f"inner.{i}.weight"].second_moment == pytest.approx(1)


def test_residual_branches_follow_the_policy_that_the_user_chooses():
    unit, zero = (plan(Residual(3), (1, 3, 8, 8), residual=name) for name in ("unit", "zero-last"))
    assert unit["outer.1.weight"].second_moment == pytest.approx(1)
    assert zero["outer.1.weight"].law == Constant(0.0)
    assert zero["inner.1.weight"].law.std > 0


def test_overrides_win_in_their_order_and_later_layers_make_up_for_them():
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    made = plan(
        net,
        (1, 8),
        overrides=[("2.weight", Orthogonal(1.5)), ("*.weight", Kaiming(mode="fan_out")), ("0.bias", Normal(0.1))],
    )
    assert made["2.weight"].law == Orthogonal(1.5)
    assert made["0.weight"].law.std == pytest.approx(math.sqrt(2 / 8))
    assert made["0.bias"].law == Normal(0.1)
    loud = plan(net, (1, 8), overrides=[("0.weight", Normal(3.0))])
    assert loud["0.weight"].second_moment == pytest.approx(72)
    assert loud["2.weight"].second_moment == pytest.approx(1)


def test_a_law_that_cannot_be_drawn_for_a_parameter_names_pattern_and_parameter():
    with pytest.raises(PlanError, match=r"override '2\.\*' matches 2\.bias, but Orthogonal"):
        plan(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), (1, 8), overrides=[("2.*", Orthogonal())])


def test_an_override_that_matches_nothing_is_an_error_with_near_names():
    with pytest.raises(PlanError, match=r"'features\.\*' matches none of the 2 parameters"):
        plan(nn.Sequential(nn.Linear(3, 3)), (1, 3), overrides=[("features.*", Normal(1.0))])


@pytest.mark.parametrize(("option", "value"), [("goal", "sideways"), ("residual", "none")])
def test_unknown_options_name_the_choices(option, value):
    with pytest.raises(PlanError, match=rf"{option}='{value}' is not .*Choose one of"):
        plan(nn.Linear(3, 3), (1, 3), **{option: value})


def test_weight_normalised_layers_are_planned_through_their_magnitude():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(32, 16, bias=False))
    made = plan(nn.Sequential(layer), (4, 32))
    magnitude = made["0.parametrizations.weight.original0"].law
    assert magnitude.mean == pytest.approx(1.0)  # |row| = 1 gives E[y²] = E[x²] for one row
    assert made["0.parametrizations.weight.original1"].law.std == pytest.approx(32**-0.5)


def test_planning_reads_no_weight_and_changes_nothing():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():
        net[0].weight.fill_(math.nan)
    first = plan(net, (2, 3, 8, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items() if k != "0.weight")
    with torch.device("meta"):
        hollow = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
    assert plan(hollow, (2, 3, 8, 8)).to_dict() == first.to_dict()


@pytest.mark.parametrize(
    ("model", "inputs", "error", "says"),
    [
        (nn.ReLU(), (1, 3), (PlanError, ModelError), "no (parameters|weights)"),
        (nn.Linear(3, 3), (1, 4), InputError, "3"),
        (nn.Linear(3, 3), torch.full((2, 3), math.nan), InputError, "not finite"),
        (nn.LazyLinear(3), (1, 4), ModelError, "lazy|shape"),
        (nn.Linear(3, 3), "one by three", InputError, "one by three"),
    ],
)
def test_bad_input_gets_one_clear_error(model, inputs, error, says):
    with pytest.raises(error, match=says):
        plan(model, inputs)


def test_an_op_without_a_rule_is_named_with_its_place():
    class Mixer(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.logcumsumexp(x, -1)

    net = nn.Sequential(nn.Linear(8, 8), Mixer(), nn.Linear(8, 2))
    with pytest.raises(NoRuleError, match=r"logcumsumexp \(at 1\)"):
        plan(net, (4, 8), on_unknown="error")
    assert any("logcumsumexp (at 1)" in note for note in plan(net, (4, 8)).notes)


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
def test_padding_that_is_an_op_of_its_own_does_not_count_as_input(mode):
    net = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, padding_mode=mode))
    entry = plan(net, (1, 8, 6, 6))["0.weight"]
    assert (entry.fan_in, entry.fan_out) == (pytest.approx(72), pytest.approx(144))


def test_zeros_that_are_padded_beforehand_are_no_taps():
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(nn.functional.pad(x, (1, 1, 1, 1)))

    apart = plan(Padded(), (1, 8, 6, 6))["conv.weight"]
    inside = plan(nn.Sequential(nn.Conv2d(8, 16, 3, padding=1)), (1, 8, 6, 6))["0.weight"]
    assert (apart.fan_in, apart.fan_out) == (pytest.approx(inside.fan_in), pytest.approx(inside.fan_out))
    assert apart.law.std == pytest.approx(inside.law.std)


def test_modes_of_the_caller_do_not_reach_the_plan():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
    plain = plan(net, (2, 3, 8, 8))
    for mode in (torch.no_grad(), torch.inference_mode(), torch.device("meta")):
        with mode:
            assert plan(net, (2, 3, 8, 8)) == plain


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_shapes_stand_for_tensors_of_the_models_own_type(dtype):
    made = plan(nn.Sequential(nn.Linear(16, 4)).to(dtype), (2, 16))
    assert made.inputs == f"input: {str(dtype)[6:]} (2, 16)"
    assert made["0.weight"].law.std == pytest.approx(0.25)
