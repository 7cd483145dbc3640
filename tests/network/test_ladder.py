"""Where a forward pass does not run on meta: what is tried next, and what is left where nothing else can be."""

import pytest
import torch
from torch import nn

from stepzero import plan
from stepzero.network import _ladder as ladder
from stepzero.network import capture


class Gated(nn.Module):
    """Reads a number of an activation after its second layer."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        y = self.second(self.first(x).relu())
        return self.third(y) if y.sum() > 0 else y


@pytest.fixture
def no_room(monkeypatch):
    """Nothing may be allocated for a run on real tensors."""
    monkeypatch.setattr(ladder, "LIMIT", 10)


def test_the_note_on_a_real_run_says_where_and_why_in_one_line():
    class Loud(nn.Linear):
        def forward(self, x):
            if x.is_meta:
                raise NotImplementedError("no shape function " + "x" * 500 + "\nmore")
            return super().forward(x)

    note = capture(nn.Sequential(Loud(4, 4)), (2, 4)).assumed[-1]
    assert note.startswith("ran on real tensors, since meta failed at 0 (Loud): NotImplementedError: no shape function")
    assert len(note) < 300
    assert "more" not in note


def test_a_model_too_large_for_a_real_run_is_read_up_to_the_number_that_it_asks_for(no_room):
    graph = capture(Gated(), (2, 4))
    assert graph.rung == "meta, cut short"
    assert graph.unused == ("third.weight", "third.bias")
    assert graph.dead == ()
    assert graph.assumed[-1].startswith(
        "stopped at the root module (Gated): NeedsNumbersError: is_nonzero reads a number"
    )


def test_what_was_read_before_the_cut_is_planned_and_the_rest_is_named(no_room):
    made = plan(Gated(), (2, 4))
    assert [made[f"{name}.weight"].law.kind for name in ("first", "second", "third")] == ["normal", "normal", "kept"]
    assert any("what comes after that place was not read" in note for note in made.notes)


def test_a_branch_on_an_activation_is_said_to_be_one_path_of_several():
    note = capture(Gated(), (2, 4)).assumed[-1]
    assert note.endswith("what was recorded is the path that these inputs take with random weights")


def test_elements_of_unknown_number_are_all_kept_and_said_so():
    class Distinct(nn.Linear):
        def forward(self, x):
            values, places = torch.unique(super().forward(x), return_inverse=True)
            return values[places]

    graph = capture(Distinct(4, 4), (2, 4))
    assert graph.rung == "meta"
    assert graph.values[graph.outputs[0]].shape == (2, 4)
    assert "_unique2 keeps every element at the root module" in graph.assumed


@torch.library.custom_op("stepzero_ladder::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    """An op with neither shapes for meta nor a formula for its gradient."""
    return 2 * x


def test_an_op_that_torch_knows_nothing_of_is_run_and_measured():
    class Doubling(nn.Linear):
        def forward(self, x):
            return doubled(super().forward(x))

    made = plan(nn.Sequential(Doubling(64, 64), nn.Linear(64, 64)), (2, 64))
    assert made["1.weight"].law.std == pytest.approx((4 * 64) ** -0.5, rel=0.2)  # measured on 2 x 64 numbers
    assert any(
        "measured on random tensors" in note and "stepzero_ladder::doubled (at 0)" in note for note in made.notes
    )
    assert any("ran on real tensors" in note and "doubled" in note for note in made.notes)


def test_where_every_element_is_kept_control_flow_knows_which_those_are():
    class Detecting(nn.Linear):
        def forward(self, x):
            scores = super().forward(x)
            rows, columns = torch.where(scores > 0)  # on meta: all
            return sum(scores[rows[columns == label]].sum() for label in torch.unique(columns))

    graph = capture(Detecting(4, 3), (2, 4))
    assert graph.rung == "meta"
    assert [graph.values[n.inputs[0]].shape for n in graph.nodes if n.op == "sum"] == [(2, 3)] * 3  # two rows a label
    assert "where keeps every element at the root module" in graph.assumed


def test_a_real_run_asks_no_guess_which_elements_are_kept():
    class Choosing(nn.Linear):
        def forward(self, x):
            y = super().forward(x) * 0 + torch.tensor([1.0, -1.0, 1.0])
            scale = float(y.sum())  # asks for numbers
            return sum(scale * y[:, i].sum() for i in torch.nonzero(y[0] > 0).flatten().tolist())

    graph = capture(Choosing(4, 3), (2, 4))
    assert graph.rung == "real"
    assert sum(node.op == "select" for node in graph.nodes) - 1 == 2
