"""The author's own init as a plan: recorded by `build`, shown, saved, applied and materialised like any other."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import stepzero
import stepzero.filling
from stepzero.errors import ApplyError, PlanError
from stepzero.filling import _materialize
from stepzero.laws import Constant, Copy, Kept, Normal, Norms, Orthogonal, Parts, Uniform, Values
from stepzero.planning import Plan, plan

torch.set_num_threads(1)


class Net(nn.Module):
    """Every kind of law at once."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 8, padding_idx=0)
        position = torch.arange(6.0)[:, None] * torch.exp(torch.arange(0, 8, 2) * (-math.log(1e4) / 8))
        self.position = nn.Parameter(torch.cat([position.sin(), position.cos()], dim=1), requires_grad=False)
        self.token = nn.Parameter(torch.randn(1, 8) * 0.02)
        self.qkv = nn.Linear(8, 24, bias=False)
        for third in self.qkv.weight.data.chunk(3):
            nn.init.orthogonal_(third)
        self.gates = nn.Parameter(torch.cat([torch.zeros(8), torch.ones(8)]))
        self.block = nn.Linear(8, 8)
        nn.init.trunc_normal_(self.block.weight, std=0.02)
        nn.init.zeros_(self.block.bias)
        self.target = copy.deepcopy(self.block)
        self.register_buffer("directions", torch.randn(8, 8))
        self.register_buffer("noise", torch.rand(3), persistent=False)
        self.register_buffer("grid", torch.linspace(0, 1, 3))

    def forward(self, ids):
        x = self.embed(ids) + self.position[: ids.shape[1]] + self.token
        q, k, v = self.qkv(x).chunk(3, -1)
        x = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.block(x @ self.directions) + self.target(x)


IDS = {"args": (torch.arange(12).reshape(2, 6) % 10,)}


@pytest.fixture
def nan_memory(monkeypatch):
    original = _materialize.empty_like

    def poisoned(tensor, device):
        made = original(tensor, device)
        return made.fill_(float("nan")) if made.is_floating_point() else made.fill_(-99)

    monkeypatch.setattr(_materialize, "empty_like", poisoned)


def test_entries_carry_the_recorded_laws():
    own = plan(stepzero.build(Net), IDS, goal="own")
    assert own["embed.weight"].law == Parts((((), Normal(1.0)), (((0, 1), (0, 8)), Constant(0.0))))
    assert isinstance(own["position"].law, Values)
    assert own["token"].law == Normal(0.02)
    assert [law for _, law in own["qkv.weight"].law.parts] == [Orthogonal()] * 3
    assert own["gates"].law.draw((16,)).tolist() == [0.0] * 8 + [1.0] * 8
    assert own["block.weight"].law == Normal(0.02)
    assert own["target.weight"].law == Copy("block.weight", Normal(0.02))
    assert own["directions"].law == Normal(1.0)
    assert "noise" not in own  # not persistent: no file holds it


def test_a_plan_of_the_authors_laws_needs_no_inputs():
    model = stepzero.build(Net)
    assert {name: entry.law for name, entry in plan(model, goal="own").items()} == {
        name: entry.law for name, entry in plan(model, IDS, goal="own").items()
    }


def test_second_moments_are_those_of_the_authors_laws():
    net = stepzero.build(lambda: nn.Sequential(nn.Linear(64, 64, bias=False), nn.ReLU(), nn.Linear(64, 64, bias=False)))
    own = plan(net, (1, 64), goal="own")
    assert own["0.weight"].second_moment == pytest.approx(1 / 3)  # torch draws U(±1/√fan_in)
    assert own["2.weight"].second_moment == pytest.approx(1 / 18)


def test_every_write_is_told_in_order():
    reasons = plan(stepzero.build(Net), goal="own")["block.weight"].reasons
    assert reasons[-1].startswith("then truncated_normal(mean=0, std=0.02, a=-2, b=2) at ")
    assert "test_own.py" in reasons[-1]
    assert any(reason.startswith("uniform(from=-0.353553") for reason in reasons)


def test_what_is_written_is_what_the_author_meant(nan_memory):
    model = stepzero.build(Net)
    receipt = stepzero.materialize_(model, plan(model, goal="own"), seed=3)
    assert receipt.kept == ()
    for name, tensor in model.state_dict().items():
        assert not torch.isnan(tensor).any(), name
    real = Net()
    torch.testing.assert_close(model.position, real.position, rtol=0, atol=0)
    torch.testing.assert_close(model.grid, real.grid, rtol=0, atol=0)
    assert torch.equal(model.target.weight, model.block.weight)
    assert model.target.weight is not model.block.weight
    assert not model.embed.weight[0].any()
    assert model.noise.min() >= 0
    for third in model.qkv.weight.detach().chunk(3):
        torch.testing.assert_close(third @ third.T, torch.eye(8), rtol=0, atol=1e-5)


def test_a_saved_plan_of_the_authors_laws_comes_back_whole(tmp_path):
    own = plan(stepzero.build(Net), IDS, goal="own")
    assert Plan.load(own.save(tmp_path / "own.json")) == own


def test_own_laws_are_applied_and_streamed_alike(tmp_path):
    from safetensors.torch import load_file

    own = plan(stepzero.build(Net), goal="own")
    model = Net()
    own.apply_(model, seed=5)
    stepzero.save(own, tmp_path / "own.safetensors", seed=5, zero_rows={"embed.weight": 0})
    for name, tensor in load_file(tmp_path / "own.safetensors").items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_what_our_goals_leave_alone_follows_the_author(nan_memory):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.register = nn.Linear(8, 8), nn.Parameter(torch.randn(2, 4, 8) * 0.5)
            self.unused = nn.Parameter(torch.full((3,), 0.25))

        def forward(self, x):
            return self.lin(torch.cat([x, self.register], dim=1))

    assert plan(Gated(), (2, 5, 8))["register"].law == Kept()
    model = stepzero.build(Gated)
    ours = plan(model, (2, 5, 8))
    assert ours["register"].law == Normal(0.5)
    assert ours["register"].recipe == "own"
    assert ours["unused"].law == Constant(0.25)
    assert stepzero.materialize_(model, ours).kept == ()


def test_a_plan_made_without_the_recording_is_completed_by_it(nan_memory):
    bare = Plan(tuple(entry for name, entry in plan(stepzero.build(Net), goal="own").items() if name == "qkv.weight"))
    model = stepzero.build(Net)
    receipt = stepzero.materialize_(model, bare, 1)
    assert {line.name for line in receipt.written} >= {"qkv.weight", "token", "noise", "directions"}
    assert not any(torch.isnan(tensor).any() for tensor in model.parameters())


def test_what_is_given_wins_over_the_recording():
    model = stepzero.build(Net)
    stepzero.materialize_(model, plan(model, goal="own"), values={"noise": torch.full((3,), 7.0)})
    assert model.noise.tolist() == [7.0] * 3


def test_overrides_win_over_the_author():
    model = stepzero.build(Net)
    for own in (plan(model, IDS, goal="own", overrides=[("token", Uniform(-1, 1))]),
                plan(model, goal="own", overrides=[("token", Uniform(-1, 1))])):  # fmt: skip
        assert own["token"].law == Uniform(-1, 1)
    kaiming = plan(model, IDS, goal="own", overrides=[("block.weight", stepzero.Kaiming())])
    assert kaiming["block.weight"].law.std == pytest.approx(math.sqrt(2 / 8))
    kept = plan(stepzero.build(Net), IDS, overrides=[("token", Kept())])
    assert kept["token"].law == Kept()


def test_recipes_without_inputs_are_refused():
    with pytest.raises(PlanError, match="needs fans, and without inputs there are none"):
        plan(stepzero.build(Net), goal="own", overrides=[("block.weight", stepzero.Kaiming())])
    with pytest.raises(PlanError, match="follows a signal through the model: give inputs"):
        plan(Net())


def test_what_is_not_known_is_kept_with_the_line():
    def factory():
        layer = nn.Linear(4, 4)
        layer.weight.data.cauchy_()
        layer.decay = nn.Parameter(torch.from_numpy(np.random.rand(3)).float())  # noqa: NPY002
        return layer

    model = stepzero.build(factory)
    own = plan(model, goal="own")
    assert own["weight"].law == own["decay"].law == Kept()
    assert "cauchy draws from a distribution" in own["weight"].reasons[0]
    assert "test_own.py:" in own["weight"].reasons[0]
    assert own.notes[0] == "2 parameters keep their values: weight, decay"
    (told,) = (note for note in own.notes if note.startswith("weight: its law is not known: cauchy draws from"))
    assert "test_own.py:" in told
    seen = plan(model, (2, 4), goal="own").notes
    assert sum("keep their values" in note for note in seen) == 1
    assert told in seen
    with pytest.raises(ApplyError, match="2 tensors on meta"):
        stepzero.materialize_(model, own)


def test_a_layer_put_in_later_is_not_taken_for_the_recorded_one():
    model = stepzero.build(lambda: nn.Sequential(nn.Linear(4, 4)))
    model[0] = nn.Linear(4, 3)
    with torch.no_grad():
        model[0].weight.fill_(0.5)
    assert plan(model, goal="own")["0.weight"].law != Uniform(-0.5, 0.5)


def weight_normed():
    norm = nn.utils.parametrizations.weight_norm
    return nn.Sequential(norm(nn.Conv1d(3, 4, 5), dim=2), nn.Flatten(), norm(nn.Linear(16, 6)), nn.Linear(6, 2))


V, G = "2.parametrizations.weight.original1", "2.parametrizations.weight.original0"


def test_gains_of_weight_norm_are_written_as_the_lengths_of_their_directions(nan_memory):
    model = stepzero.build(weight_normed)
    own = plan(model, (2, 3, 8), goal="own")
    stepzero.materialize_(model, own, seed=3)
    for layer in (model[0], model[2]):
        torch.testing.assert_close(layer.weight, layer.parametrizations.weight.original1, rtol=1e-6, atol=0)
    assert own[V].second_moment is None or own[V].second_moment > 0


def test_lengths_and_copies_follow_an_override_of_what_they_are_taken_from():
    model = stepzero.build(weight_normed)
    for own in (plan(model, goal="own", overrides=[(V, Normal(0.5))]),
                plan(model, (2, 3, 8), goal="own", overrides=[(V, Normal(0.5))])):  # fmt: skip
        assert own[G].law == Norms(V, Normal(0.5), (6, 16), 0)
        assert own[G].reasons[-1] == f"it follows {V}, whose law is another now"
    twice = stepzero.build(Net)
    own = plan(twice, goal="own", overrides=[("block.weight", Normal(0.5))])
    assert own["target.weight"].law == Copy("block.weight", Normal(0.5))
    stepzero.materialize_(twice, own)
    assert torch.equal(twice.target.weight, twice.block.weight)


def test_vectors_of_spectral_norm_are_iterated_on_the_weight_that_was_written(nan_memory):
    def factory():
        return nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 16, 3))

    model = stepzero.build(factory)
    receipt = stepzero.materialize_(model, plan(model, goal="own"), seed=3)
    assert receipt.computed == ("parametrizations.weight.0._u", "parametrizations.weight.0._v")
    model.eval()
    norm = torch.linalg.matrix_norm(model.weight.flatten(1), 2).item()
    assert 1 - 1e-5 < norm < 1.25  # 15 iterations find σ from below; a random direction would find a fifth of it
    again = stepzero.build(factory)
    stepzero.materialize_(again, plan(again, goal="own"), seed=3)
    assert torch.equal(model.parametrizations.weight[0]._v, again.parametrizations.weight[0]._v)


def padded(zeroed):
    def factory():
        table = nn.Embedding(10, 8, padding_idx=3)
        if not zeroed:
            nn.init.normal_(table.weight, std=0.5)  # over the padding row, as many authors do
        return table

    return factory


def test_padding_rows_are_what_the_author_left_there(tmp_path):
    from safetensors.torch import load_file

    for zeroed in (True, False):
        model = stepzero.build(padded(zeroed))
        own = plan(model, goal="own")
        stepzero.materialize_(model, own, seed=1)
        assert bool(model.weight[3].any()) is not zeroed
        eager = padded(zeroed)()
        own.apply_(eager, seed=1)
        assert torch.equal(eager.weight, model.weight)
        rows = stepzero.filling.padding_rows(model, own)
        read = Plan.load(own.save(tmp_path / f"{zeroed}.json"))
        assert stepzero.filling.padding_rows(model, read) == rows == {}
        path = tmp_path / f"{zeroed}.safetensors"
        stepzero.save(own, path, seed=1, zero_rows=rows)
        assert torch.equal(load_file(path)["weight"], model.weight)


def test_padding_rows_stay_zero_under_laws_that_are_not_the_authors():
    model = stepzero.build(padded(False))
    ours = plan(model, goal="own", overrides=[("weight", Normal(0.5))])
    stepzero.materialize_(model, ours, seed=1)
    assert not model.weight[3].any()
