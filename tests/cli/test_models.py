from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stepzero.cli import _models
from stepzero.cli._models import Source, load_weights, persistent_buffers
from stepzero.errors import FileError

NETS = Path(__file__).with_name("nets.py")


def source(name, **arguments):
    return Source(f"{NETS}:{name}", arguments, evaluate=False)


def test_a_hollow_model_has_real_buffers_and_parameters_without_memory():
    module = source("Positioned").hollow()
    assert module.table.tolist() == list(range(8))
    assert all(parameter.is_meta for parameter in module.parameters())


def test_the_mode_is_as_asked():
    assert source("normed").hollow().training
    assert not Source(f"{NETS}:normed", {}, evaluate=True).real(0).training


def test_building_for_real_leaves_the_random_state_alone_and_follows_the_seed():
    before = torch.random.get_rng_state()
    one, same = (source("stack").real(3)[0].weight for _ in range(2))
    assert torch.equal(one, same)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_hollow_model_comes_alive_with_its_ties(tmp_path):
    real, hollow = source("Positioned").real(0), source("Positioned").hollow()
    values = {name: value.detach() for name, value in real.named_parameters()} | {"table": torch.full((8,), 2.0)}
    save_file(values, tmp_path / "a.safetensors")
    load_weights(hollow, tmp_path / "a.safetensors")
    assert hollow.second.weight is hollow.first.weight
    assert hollow.table.tolist() == [2.0] * 8
    real.table.fill_(2.0)
    x = torch.ones(2, 8)
    assert torch.equal(hollow(x), real(x))


def test_only_persistent_buffers_belong_into_a_file():
    module = nn.BatchNorm1d(3)
    module.register_buffer("cache", torch.zeros(3), persistent=False)
    assert set(persistent_buffers(module)) == {"running_mean", "running_var", "num_batches_tracked"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.weight": None}, r"misses 0\.weight"),
        ({"9.weight": torch.zeros(2)}, r"the model has not, 9\.weight"),
        ({"0.bias": torch.zeros(2)}, r"has another shape of 0\.bias"),
    ],
)
def test_a_file_for_another_model_is_refused_and_the_model_is_as_it_was(tmp_path, change, message):
    module = source("stack").real(0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    stored = {name: value for name, value in (before | change).items() if value is not None}
    save_file({name: torch.zeros_like(value) for name, value in stored.items()}, tmp_path / "a.safetensors")
    with pytest.raises(FileError, match=message):
        load_weights(module, tmp_path / "a.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_where_kept_values_take_too_much_memory_the_plan_says_that_they_are_unknown(monkeypatch):
    ordered = source("Sorted")
    monkeypatch.setattr(_models, "MOST_MEMORY", 0)
    plan = ordered.plan(ordered.hollow(), ["4x16"], {}, seed=0)
    assert "values of kept parameters are unknown" in plan.notes[-1]
    monkeypatch.undo()
    assert not any("unknown" in note for note in ordered.plan(ordered.hollow(), ["4x16"], {}, seed=0).notes)


def test_a_buffer_that_follows_its_parameters_to_meta_is_built(tmp_path):
    (tmp_path / "follows.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.inner = torch.nn.Linear(4, 4)\n"
        "        self.register_buffer('mask', torch.full((4,), 3.0, device=self.inner.weight.device), persistent=False)\n"
        "    def forward(self, x):\n"
        "        return self.inner(x) + self.mask\n"
    )
    module = Source.of(f"{tmp_path}/follows.py:Net", None, evaluate=False).hollow()
    assert module.inner.weight.is_meta
    assert module.mask.tolist() == [3.0] * 4
