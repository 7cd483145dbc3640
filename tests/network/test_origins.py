"""Where each tensor's values come from: parts, copies, lengths of one another, and the story in words."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from stepzero.laws import Constant, Identity, Normal, Norms, Orthogonal, Sphere
from stepzero.network import build, recording

from .records import inplace, of


def test_parts_that_differ_are_boxes():
    origin = of(inplace(lambda w: w.normal_()[2].zero_()))
    base, row = origin.parts
    assert (base.law, row.law) == (Normal(1.0), Constant(0.0))
    assert row.where == (slice(2, 3, 1), slice(0, 4, 1))
    assert origin.law is None
    assert origin.known


def test_numbers_too_many_to_follow_are_boxes_of_numbers(monkeypatch):
    monkeypatch.setattr("stepzero.network._known.LIMIT", 40)

    def fill(w):
        table = torch.zeros(6, 6)
        table[1:, 1:] = torch.arange(5.0)
        return table

    base, inner = of(fill).parts
    assert base.law == Constant(0.0)
    assert inner.where == (slice(1, 6, 1), slice(1, 6, 1))


def test_joined_parts_are_boxes_without_a_base():
    origin = of(lambda w: torch.cat([torch.randn(3, 4), torch.zeros(1, 4)]))
    assert [(part.where[0].start, part.law) for part in origin.parts] == [(0, Normal(1.0)), (3, Constant(0.0))]


def test_numbers_that_follow_from_constants_are_kept():
    assert of(lambda w: torch.linspace(0, 1, 3) ** 2).values.tolist() == [0.0, 0.25, 1.0]


def test_history_tells_every_write_with_its_line():
    history = of(inplace(lambda w: w.normal_().mul_(2.0))).history
    assert [line.split(" at ")[0] for line in history] == ["normal(mean=0, std=1)", "mul(other=2)"]
    assert all(Path(__file__).name in line for line in history)


def test_layers_of_torch_blame_the_line_of_the_model():
    origin = recording(build(lambda: nn.Linear(3, 4)))["weight"]
    assert Path(__file__).name in origin.history[-1]


def test_copies_of_one_draw_are_told_from_draws_of_their_own():
    def factory():
        first = nn.Linear(4, 4)
        return nn.ModuleList([first, copy.deepcopy(first), nn.Linear(4, 4)])

    found = recording(build(factory))
    assert [found[f"{i}.weight"].copy_of for i in range(3)] == ["", "0.weight", ""]
    assert found["1.weight"].law == found["0.weight"].law


def test_parts_written_through_views_are_matrices_of_their_own():
    def fill(w):
        for third in w.data.chunk(3):
            nn.init.orthogonal_(third, 2.0)

    parts = of(fill, 12, 4, 2).parts
    assert [(part.where[0].start, part.law) for part in parts] == [
        (0, Orthogonal(2.0)),
        (4, Orthogonal(2.0)),
        (8, Orthogonal(2.0)),
    ]


def weight_norms():
    new, old = nn.utils.parametrizations.weight_norm, nn.utils.weight_norm
    layers = [new(nn.Conv1d(4, 6, 3), dim=2), new(nn.Linear(4, 6)), old(nn.Linear(4, 6), dim=None)]
    return nn.ModuleList([*layers, copy.deepcopy(layers[1])])


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def test_gains_of_weight_norm_are_lengths_of_their_directions():
    found = recording(build(weight_norms))
    g, v = (f"parametrizations.weight.original{i}" for i in range(2))
    bound = 12**-0.5
    assert found[f"0.{g}"].law == Norms(f"0.{v}", found[f"0.{v}"].law, (6, 4, 3), 2)
    assert found[f"0.{v}"].law.high == pytest.approx(bound)
    assert found[f"1.{g}"].law == Norms(f"1.{v}", found[f"1.{v}"].law, (6, 4), 0)
    assert found["2.weight_g"].law == Norms("2.weight_v", found["2.weight_v"].law, (6, 4), None)
    assert found[f"3.{g}"].copy_of == f"1.{g}"


def test_lengths_of_what_was_drawn_anew_have_a_stream_of_their_own():
    def factory():
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 6))
        nn.init.normal_(layer.parametrizations.weight.original1)
        return layer

    law = recording(build(factory))["parametrizations.weight.original0"].law
    assert law.of == "parametrizations.weight.original0"
    assert law.law.high == pytest.approx(0.5)


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*deprecated")
def test_spectral_norm_records_its_original_and_the_directions_that_it_starts_from():
    found = recording(build(lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6))))
    assert found["parametrizations.weight.original"].law.high == pytest.approx(0.5)
    assert "mv is no op of a law" in found["parametrizations.weight.0._u"].reason
    old = recording(build(lambda: nn.utils.spectral_norm(nn.Linear(4, 6))))
    assert old["weight_u"].law == old["weight_v"].law == Sphere()


def test_orthogonal_parametrisations_are_built_for_real_and_say_what_their_base_is():
    for size in ((4, 4), (4, 6)):
        found = recording(build(lambda size=size: nn.utils.parametrizations.orthogonal(nn.Linear(*size))))
        assert found.rung == "real"  # torch reads the weight, or has no kernel for meta, and catches that
        assert found["parametrizations.weight.original"].law == Identity(-1.0)
        assert "linalg_householder_product is no op of a law" in found["parametrizations.weight.0.base"].reason


def test_copies_of_computed_values_and_of_mixtures_are_copies():
    def factory():
        net = nn.Module()
        net.table = nn.Embedding(5, 3, padding_idx=0)
        net.token = nn.Parameter(torch.randn(4) * 0.02 + 1)
        net.other = copy.deepcopy(net)
        return net

    found = recording(build(factory))
    assert found["other.token"].copy_of == "token"
    assert found["other.table.weight"].copy_of == "table.weight"


def test_the_story_is_told_from_the_first_draw_on():
    history = of(lambda w: (torch.randn(4) * 0.1 + 1).view(2, 2)).history
    assert [line.split(" at ")[0] for line in history] == ["randn()", "mul(other=0.1)", "add(other=1)"]
    (line,) = of(lambda w: torch.zeros(3)).history
    assert line.startswith("zeros() at ")


def test_bounds_that_cut_nothing_are_told():
    history = of(lambda w: nn.init.trunc_normal_(w, std=0.02)).history
    assert "(its bounds lie 100 standard deviations out: nothing is cut)" in history[-1]
    assert "nothing is cut" not in of(lambda w: nn.init.trunc_normal_(w, std=1.0)).history[-1]


def test_long_stories_keep_their_end():
    def fill(w):
        x = torch.randn(3)
        for _ in range(40):
            x = x * 0.5
        return x

    history = of(fill).history
    assert len(history) == 13
    assert all(line.startswith("mul(other=0.5)") for line in history)
