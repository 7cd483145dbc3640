"""A plan is held against a model before anything is written."""

import pytest
import torch
from torch import nn

from stepzero.errors import ApplyError, SeedError
from stepzero.filling._match import kept, match, padding_rows
from stepzero.laws import Kept, Normal, Orthogonal

from .plans import Entry, plan_for

LAW = Normal(0.1)


def test_targets_are_in_the_models_order_without_what_is_kept():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    plan = dict(reversed(plan_for(model).items())) | {"0.bias": Entry((3,), "float32", Kept())}
    assert [target.slot.name for target in match(plan, model, 0)] == ["0.weight", "1.weight", "1.bias"]
    assert kept(plan, model) == ("0.bias",)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"weight": Entry((3, 3), "float32", LAW)}, r"weight: shape \(3, 2\) in the model, \(3, 3\) in the plan"),
        ({"weihgt": Entry((3, 2), "float32", LAW)}, "no parameter 'weihgt'.*Did you mean weight"),
        ({"weight": Entry((3, 2), "complex64", LAW)}, "float32 in the model, complex64 in the plan"),
        ({"bias": Entry((3,), "float32", Orthogonal(1.0))}, "bias: "),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_the_place(plan, message):
    with pytest.raises(ApplyError, match=message):
        match(plan, nn.Linear(2, 3), 0)


def test_only_the_first_few_of_many_problems_are_listed():
    model = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(7)))
    plan = {name: Entry((9, 9), "float32", LAW) for name in plan_for(model)}
    with pytest.raises(ApplyError, match="and 2 more") as caught:
        match(plan, model, 0)
    assert str(caught.value).count("in the plan") == 5


def test_a_tie_has_one_entry_under_its_first_name():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    with pytest.raises(ApplyError, match=r"1\.weight is tied to 0\.weight"):
        match({"1.weight": Entry((2, 2), "float32", LAW)}, model, 0)


def test_memory_that_cannot_be_written_is_found_before():
    model = nn.Linear(2, 3, bias=False, device="meta")
    with pytest.raises(ApplyError, match="materialize_"):
        match(plan_for(model), model, 0)
    assert len(match(plan_for(model), model, 0, on_meta=True)) == 1
    shared = nn.Linear(2, 3, bias=False)
    shared.weight = nn.Parameter(torch.zeros(1, 2).expand(3, 2))
    with pytest.raises(ApplyError, match="elements share memory"):
        match(plan_for(shared), shared, 0)


def test_a_seed_out_of_range_is_refused_first():
    with pytest.raises(SeedError):
        match({"nothing": Entry((1,), "float32", LAW)}, nn.Linear(1, 1), -1)


def test_padding_rows_are_those_of_embeddings_unless_the_author_drew_them():
    model = nn.Sequential(nn.Embedding(5, 2, padding_idx=3), nn.Embedding(5, 2))
    assert padding_rows(model) == {"0.weight": 3}
    own = {"0.weight": type("Own", (Entry,), {"recipe": "own"})((5, 2), "float32", LAW)}
    assert padding_rows(model, own) == {}
