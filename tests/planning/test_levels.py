"""Levels: what backward and balanced make of nets whose answer is known, or can be compared."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import stepzero
from stepzero.errors import PlanError
from stepzero.laws import Normal, Uniform
from stepzero.planning import GOALS, plan

BAND = GOALS["balanced"].band


def stack(widths: list[int], kernel: int = 3) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Conv2d(a, b, kernel, padding=kernel // 2, padding_mode="circular"), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def gradients(made) -> list[float]:
    return [e.gradient_second_moment for e in made.entries if e.fan_in]


def seconds(made) -> list[float]:
    return [e.second_moment for e in made.entries if e.fan_in]


def extremes(made) -> tuple[float, float]:
    """Largest |ln E[y²]|, and |ln| of the first over the last gradient."""
    g = gradients(made)
    return max(abs(math.log(q)) for q in seconds(made)), abs(math.log(g[0] / g[-1]))


@pytest.mark.parametrize(("channels", "depth", "kernel"), [(4, 3, 3), (7, 6, 1)])
def test_where_one_scale_meets_both_all_goals_agree(channels, depth, kernel):
    net = stack([channels] * (depth + 1), kernel)
    stds = [[e.law.std for e in plan(net, (1, channels, 6, 6), goal=goal).entries if e.fan_in] for goal in GOALS][:3]
    for other in stds[1:]:
        assert other == pytest.approx(stds[0], rel=1e-6)
    assert stds[0][1:] == pytest.approx([math.sqrt(2 / (channels * kernel**2))] * (depth - 1), rel=1e-6)


@given(st.lists(st.integers(2, 40), min_size=3, max_size=6))
@settings(max_examples=6, deadline=None)
def test_backward_gives_a_plain_stack_two_over_fan_out_and_every_gradient_one(widths):
    made = plan(stack(widths), (1, widths[0], 6, 6), goal="backward")
    assert gradients(made) == pytest.approx([1.0] * (len(widths) - 1), rel=1e-4)
    for entry in [e for e in made.entries if e.fan_in][1:]:
        assert entry.law.variance == pytest.approx(2 / entry.fan_out, rel=1e-4)


def test_backward_counts_stride_and_borders():
    even = nn.Conv2d(16, 16, 3, padding=1, padding_mode="circular")  # its input's gradients are alike everywhere
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), even)
    made = plan(net, (1, 3, 12, 12), goal="backward")
    assert gradients(made) == pytest.approx([1.0] * 3, rel=1e-4)
    assert made["2.weight"].law.variance == pytest.approx(2 / made["2.weight"].fan_out, rel=1e-4)


def kaiming(net: nn.Module, mode: str) -> list[tuple[str, Normal]]:
    """What torch.nn.init draws, from the fans of the shapes alone."""
    counted = {n: nn.init._calculate_fan_in_and_fan_out(p) for n, p in net.named_parameters() if p.dim() > 1}
    return [(n, Normal(math.sqrt(2 / both[mode == "fan_out"]))) for n, both in counted.items()]


@given(st.lists(st.integers(2, 60), min_size=3, max_size=7))
@settings(max_examples=6, deadline=None)
def test_balanced_evens_the_ends_within_its_band_and_is_worse_on_no_count_than_one_mode_of_kaiming(widths):
    net, shape = stack(widths), (1, widths[0], 6, 6)
    signal, ratio = extremes(plan(net, shape, goal="balanced"))
    assert signal <= BAND + 1e-9
    assert ratio <= extremes(plan(net, shape))[1] + 1e-9
    rivals = [extremes(plan(net, shape, overrides=kaiming(net, mode))) for mode in ("fan_in", "fan_out")]
    # a log of 0.01 counts as none: fan_out holds gradients exactly
    assert any(signal <= a + 1e-5 and ratio <= max(b, 0.01) + 1e-5 for a, b in rivals)


def test_saturating_activations_converge_too():
    layers: list[nn.Module] = [nn.Linear(32, 32)]
    for _ in range(10):
        layers += [nn.Tanh(), nn.Linear(32, 32)]
    net = nn.Sequential(*layers)
    forward, balanced = (plan(net, (8, 32), goal=goal) for goal in ("forward", "balanced"))
    assert extremes(forward)[1] > 1.0  # E[tanh'²] / E[tanh²] = 1.178 a layer
    assert extremes(balanced)[1] < 0.3 * extremes(forward)[1]
    assert "settled after" in balanced.notes[0]


class Twice(nn.Module):
    """One weight used for two signals of different size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared = nn.Linear(16, 16), nn.Linear(16, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shared(4.0 * self.stem(x)) + self.shared(torch.relu(self.stem(x)))


def test_a_weight_that_is_used_twice_serves_both_uses():
    made = plan(Twice(), (4, 16))
    shared = made["shared.weight"].law.variance
    # its uses see second moments 16 and 1/2 of the stem's two outputs of 1: the geometric mean of both outputs is 1
    assert shared == pytest.approx(1 / 16 / math.sqrt(16 * 0.5), rel=1e-3)
    assert any("used more than once" in note for note in made.notes)


class Attention(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out, self.wide = nn.Linear(width, width), nn.Linear(width, 8 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = nn.functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
        return self.wide(torch.relu(self.out(y)))


def test_queries_and_keys_keep_their_level_whatever_the_goal():
    made = plan(Attention(), (2, 5, 16), goal="balanced")
    assert made["q.weight"].second_moment == pytest.approx(1.0)
    assert made["k.weight"].second_moment == pytest.approx(1.0)
    assert made["wide.weight"].second_moment != pytest.approx(1.0, rel=0.01)


def test_what_the_user_fixed_stays_fixed_and_the_rest_makes_up_for_it():
    net = stack([4, 8, 16, 8])
    made = plan(net, (1, 4, 6, 6), goal="backward", overrides=[("2.weight", Normal(0.05))])
    assert made["2.weight"].law == Normal(0.05)


def test_a_goal_that_is_not_known_names_the_choices():
    with pytest.raises(PlanError, match="forward, backward, balanced, own"):
        plan(stack([2, 2]), (1, 2, 4, 4), goal="sideways")


def classifier() -> nn.Sequential:
    """A small VGG: maps shrink, so that signals and gradients cannot both be held."""
    layers: list[nn.Module] = []
    for a, b in pairwise([3, 16, 32, 48]):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(48 * 4, 64), nn.ReLU(), nn.Linear(64, 10))


def torch_default(net: nn.Module) -> list[tuple[str, Uniform]]:
    fans = {name: p[0].numel() for name, p in net.named_parameters() if p.dim() > 1}
    bounds = {name: fan**-0.5 for name, fan in fans.items()}
    bounds |= {name.replace("weight", "bias"): bound for name, bound in bounds.items()}
    return [(name, Uniform(-bound, bound)) for name, bound in bounds.items()]


def test_balanced_loses_to_none_of_the_usual_rivals_on_either_count():
    net, shape = classifier(), (1, 3, 16, 16)
    rivals = [kaiming(net, "fan_in"), kaiming(net, "fan_out"), torch_default(net)]
    found = [extremes(plan(net, shape, overrides=laws)) for laws in rivals]
    signal, ratio = extremes(plan(net, shape, goal="balanced"))
    assert signal <= min(a for a, _ in found)
    assert ratio <= min(b for _, b in found)
    assert ratio < 0.5 * extremes(plan(net, shape))[1]


def test_where_activations_saturate_balanced_falls_back_to_the_rival_that_the_descent_cannot_beat():
    layers: list[nn.Module] = [nn.Linear(32, 32)]
    for _ in range(10):
        layers += [nn.Tanh(), nn.Linear(32, 32)]
    net = nn.Sequential(*layers)  # signals of 2 at the first layer alone even the gradients behind it
    signal, ratio = extremes(plan(net, (8, 32), goal="balanced"))
    rival = extremes(plan(net, (8, 32), overrides=kaiming(net, "fan_in")))
    assert signal <= rival[0] + 1e-6
    assert ratio <= rival[1] + 1e-6


def test_where_the_two_best_numbers_exclude_each_other_one_rival_is_met_on_both_counts():
    net, shape = stack([4, 8, 64]), (1, 4, 6, 6)
    held, evened = (extremes(plan(net, shape, overrides=kaiming(net, mode))) for mode in ("fan_in", "fan_out"))
    made = plan(net, shape, goal="balanced")
    signal, ratio = extremes(made)
    # E[y²]·E[g²]·channels is alike along a chain: ratio ≥ ln(64/8) - 2·signal, and fan_in's ln 2 leaves ln 2 of it, fan_out nothing
    assert held == pytest.approx((math.log(2), math.log(8)), rel=1e-6)
    assert evened[1] == pytest.approx(0.0, abs=1e-9)
    assert "which no levels were found to meet at once" in made.notes[0]
    assert signal <= evened[0] + 1e-5
    assert ratio <= 0.01


def test_what_is_drawn_has_the_gradients_that_balanced_promises():
    net, shape = classifier(), (8, 3, 16, 16)
    made = plan(net, shape, goal="balanced")
    rows = stepzero.check(net, shape, made, draws=6).rows
    measured = math.log(rows[0].gradient_measured / rows[-1].gradient_measured)
    predicted = math.log(rows[0].gradient_predicted / rows[-1].gradient_predicted)
    assert measured == pytest.approx(
        predicted, abs=0.7
    )  # 6 draws of a log whose spread is about 0.5, and 25 % of theory


class Muted(nn.Module):
    """A branch behind a scale that starts at 0 (Gemma 3n's per-layer gates), with a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.gate, self.back = nn.Parameter(torch.zeros(8)), nn.Linear(8, 8), nn.Linear(8, 8)
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.first(x))
        return self.last(x + self.back(self.gate(x * self.scale)))


@pytest.mark.parametrize("goal", ["balanced", "backward"])
def test_weights_that_hear_nothing_do_not_steer_the_others(goal):
    made = {e.name: e for e in plan(Muted(), (4, 8), goal=goal).entries}
    assert made["gate.weight"].second_moment == 0.0
    assert 0.1 < made["first.weight"].second_moment < 10.0


def test_a_gradient_that_is_no_number_is_told_with_its_place():
    class Steep(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 1e200

    with pytest.raises(PlanError, match=r"linear \(at 0\) has the signal 1 and the gradient inf"):
        plan(Steep(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), (4, 8), goal="balanced")
