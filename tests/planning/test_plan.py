import copy
import json
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stepzero.errors import ApplyError, FileError, PlanError
from stepzero.laws import Constant, Kept, Normal, Orthogonal, TruncatedNormal, Uniform
from stepzero.planning import Entry, Plan
from stepzero.reporting import dumps

LAWS = st.one_of(
    st.floats(0, 1e3).map(Normal),
    st.floats(0, 1e3).map(TruncatedNormal),
    st.floats(-1e3, 1e3).map(Constant),
    st.floats(0, 1e3).map(lambda bound: Uniform(-bound, bound)),
    st.floats(0.1, 10).map(Orthogonal),
    st.just(Kept()),
)
MOMENTS = st.none() | st.floats(min_value=0)
ENTRIES = st.builds(
    Entry,
    name=st.text(st.characters(codec="utf-8"), min_size=1),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from(["float32", "bfloat16", "complex64"]),
    law=LAWS,
    recipe=st.text(),
    reasons=st.lists(st.text(), max_size=2).map(tuple),
    second_moment=MOMENTS,
    fan_in=MOMENTS,
)
PLANS = st.builds(
    Plan,
    st.lists(ENTRIES, max_size=4, unique_by=lambda entry: entry.name).map(tuple),
    goal=st.sampled_from(["forward", "backward"]),
    inputs=st.text(),
    model=st.text(),
    notes=st.lists(st.text(), max_size=2).map(tuple),
)


@pytest.fixture
def plan():
    weight = Entry("fc.weight", (4, 8), "float32", Normal(0.5), fan_in=8.0, second_moment=1.0)
    return Plan((weight, Entry("fc.bias", (4,), "float32", Constant(0.0))), model="net")


def test_a_plan_is_a_mapping_in_the_order_of_the_model(plan):
    assert list(plan) == ["fc.weight", "fc.bias"]
    assert plan["fc.weight"].law.std == 0.5
    assert len(plan) == 2
    assert "fc.weight" in plan
    assert plan.get("fc.gain") is None


def test_a_plan_is_a_value(plan):
    assert plan == Plan(plan.entries, model="net")
    assert hash(plan) == hash(Plan(plan.entries, model="net"))
    assert plan != Plan(plan.entries, model="net", goal="backward")
    assert pickle.loads(pickle.dumps(plan)) == plan == copy.deepcopy(plan)
    with pytest.raises(AttributeError):
        plan.goal = "backward"


def test_two_entries_of_one_name_are_refused(plan):
    with pytest.raises(PlanError, match=r"two entries are named 'fc\.weight'"):
        Plan((*plan.entries, plan["fc.weight"]))


@given(PLANS)
def test_a_plan_survives_the_way_to_json_and_back(plan):
    assert Plan.from_dict(json.loads(dumps(plan.to_dict()))) == plan


def test_a_saved_plan_loads_as_the_same_plan_and_the_file_is_readable(plan, tmp_path, golden):
    path = plan.save(tmp_path / "plan.json")
    assert Plan.load(path) == plan
    golden("plan.json", path.read_text(encoding="utf-8"))


def test_saving_twice_needs_a_word_and_then_replaces(plan, tmp_path):
    path = plan.save(tmp_path / "plan.json")
    before = path.read_bytes()
    with pytest.raises(FileError, match="is there already"):
        Plan(()).save(path)
    assert path.read_bytes() == before
    Plan(()).save(path, overwrite=True)
    assert len(Plan.load(path)) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON at line 1"),
        ("[]", "this is not a plan"),
        ('{"format": "stepzero-plan", "version": 2}', "plan format 2 is not known"),
        ('{"format": "stepzero-plan", "version": 1, "parameters": []}', "not a mapping"),
        ('{"format": "stepzero-plan", "version": 1, "parameters": {"w": {}}}', "w: an entry has the fields"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_with_its_path(text, message, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanError, match=rf"bad\.json.*{message}"):
        Plan.load(path)


def test_applying_draws_what_the_plan_lists_and_leaves_the_rest(plan):
    model = nn.Sequential(OrderedDict(fc=nn.Linear(8, 4), head=nn.Linear(4, 2)))
    head = model.head.weight.detach().clone()
    receipt = plan.apply_(model, seed=3)
    np.testing.assert_array_equal(model.fc.weight.detach(), Normal(0.5).draw((4, 8), seed=3, name="fc.weight"))
    assert not model.fc.bias.any()
    assert torch.equal(model.head.weight, head)
    assert [written.name for written in receipt.written] == ["fc.weight", "fc.bias"]
    assert receipt.kept == ("head.weight", "head.bias")


def test_a_plan_for_another_model_changes_nothing(plan):
    model = nn.Sequential(OrderedDict(fc=nn.Linear(9, 4)))
    before = model.fc.weight.detach().clone()
    with pytest.raises(ApplyError, match=r"fc\.weight: shape \(4, 9\) in the model, \(4, 8\) in the plan"):
        plan.apply_(model)
    assert torch.equal(model.fc.weight, before)
