"""A model is built on meta with its own init recorded; what cannot be built so says why."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stepzero.errors import ModelError
from stepzero.laws import Constant, Normal
from stepzero.network import build, recording

from .records import of


def test_ties_are_kept_and_recorded_once():
    def factory():
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return model

    model = build(factory)
    assert model[1].weight is model[0].weight
    assert set(recording(model)) == {"0.weight", "0.bias", "1.bias"}


def test_buffers_and_plain_tensors_get_their_true_values():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)
            self.register_buffer("grid", torch.linspace(0, 1, 3), persistent=False)
            self.rates = [x.item() for x in torch.linspace(0, 0.2, 3)]
            self.index = {"table": [torch.arange(3)]}

    model = build(Net)
    assert model.grid.tolist() == [0.0, 0.5, 1.0]
    assert model.norm.running_var.tolist() == [1.0, 1.0, 1.0]
    assert model.rates == pytest.approx([0.0, 0.1, 0.2])
    assert model.index["table"][0].tolist() == [0, 1, 2]
    assert model.norm.weight.is_meta
    assert recording(model)["grid"].values.tolist() == [0.0, 0.5, 1.0]


def test_parametrisations_record_their_originals():
    def factory():
        return torch.nn.utils.parametrizations.weight_norm(nn.utils.skip_init(nn.Linear, 4, 4))

    found = recording(build(factory))
    assert {"parametrizations.weight.original0", "parametrizations.weight.original1", "bias"} == set(found)


def test_constructors_that_read_random_numbers_are_run_for_real_and_say_so():
    def factory():
        layer = nn.Linear(4, 4)
        layer.scale = nn.Parameter(torch.zeros(3) + (1.0 if layer.weight.max() > -9 else 2.0))
        return layer

    model = build(factory)
    found = recording(model)
    assert found.rung == "real"
    assert any("from activations" in line for line in found.assumed)
    assert found["weight"].law.high == pytest.approx(0.5)
    assert found["scale"].law == Constant(1.0)
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_a_build_leaves_the_global_random_states_and_torch_as_they_were():
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    init = nn.init._no_grad_trunc_normal_
    build(lambda: nn.Linear(random.randint(3, 9), 4))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert init is nn.init._no_grad_trunc_normal_
    assert not torch.empty(1).is_meta


def test_two_builds_record_the_same():
    first, second = (recording(build(lambda: nn.TransformerEncoderLayer(8, 2))) for _ in range(2))
    assert first.to_dict() == second.to_dict()


def test_factories_that_raise_name_the_line():
    def factory():
        raise RuntimeError("no GPU")

    with pytest.raises(ModelError, match=rf"raised RuntimeError at .*{Path(__file__).name}:\d+: no GPU"):
        build(factory)


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (3, r"returned an int, not a torch\.nn\.Module\. Return the module"),
        (None, "Does it lack a `return`"),
        (nn.Linear, "That is the class: return an instance"),
        ((nn.Linear(3, 4), "tokenizer"), r"build\(lambda: make\(\)\[0\]\)"),
        (nn.Linear(3, 4).state_dict(), "returned an OrderedDict, .* Values without layers are no model"),
        ([nn.Linear(3, 4)], r"Wrap the layers: torch\.nn\.Sequential"),
    ],
)
def test_factories_that_return_no_module_are_refused(thing, message):
    with pytest.raises(ModelError, match=message):
        build(lambda: thing)


@pytest.mark.parametrize(
    ("thing", "message"),
    [(nn.Linear(3, 4), "got a model that is built already"), ("resnet18", "got 'resnet18', which cannot be called")],
)
def test_what_is_no_factory_is_refused(thing, message):
    with pytest.raises(ModelError, match=message):
        build(thing)


def test_what_downloads_is_not_run_again():
    calls = []

    def factory():
        calls.append(1)
        return downloads()

    with pytest.raises(ModelError, match="It downloads"):
        build(factory)
    assert calls == [1]


def test_lines_of_a_library_come_with_the_line_of_the_factory(tmp_path, monkeypatch):
    (tmp_path / "somelib.py").write_text("def make():\n    raise ValueError\n")
    monkeypatch.syspath_prepend(tmp_path)
    import somelib

    with pytest.raises(
        ModelError, match=rf"raised ValueError at somelib\.py:2 \(from .*{Path(__file__).name}:\d+\)\.$"
    ):
        build(lambda: somelib.make())


def test_an_op_that_fails_on_meta_and_is_caught_is_run_for_real():
    def factory():
        layer = nn.Linear(4, 4)
        try:
            nn.init.constant_(layer.bias, float(torch.linalg.eigvals(layer.weight).abs().max() > -1))
        except NotImplementedError:
            nn.init.constant_(layer.bias, -3.0)
        return layer

    found = recording(build(factory))
    assert found.rung == "real"
    assert found["bias"].law == Constant(1.0)


def test_models_that_were_not_built_so_have_no_recording():
    assert recording(nn.Linear(2, 2)) is None


def downloads():
    raise OSError("We couldn't connect to 'https://example.invalid' to download the weights")


def leaves_the_program():
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("factory", "advice"),
    [
        (lambda: nn.Linear(3, 4, device="cuda"), "asks for a GPU: make it build on the CPU"),
        (downloads, "It downloads: make it build without pretrained weights"),
        (leaves_the_program, "leaves the program"),
        (Path("weights/none.pt").read_bytes, "reads a file that is not there"),
        (nn.Linear, r"Wrap it: build\(lambda"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU a factory may ask for one")
def test_errors_that_many_factories_run_into_come_with_advice(factory, advice):
    with pytest.raises(ModelError, match=advice):
        build(factory)


def test_a_generator_of_its_own_is_told_with_its_line():
    def factory():
        layer = nn.Linear(3, 4)
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(3))
        return layer

    found = recording(build(factory))
    assert found["weight"].law == Normal(1.0)
    (note,) = found.assumed
    assert Path(__file__).name in note
    assert "draws from a generator of its own" in note


def test_numbers_of_a_numpy_generator_are_no_constants():
    origin = of(lambda w: torch.tensor(np.random.default_rng(0).normal(size=(3, 3))).float())
    assert not origin.known
    assert "drawn by numpy's default_rng's own generator" in origin.reason


def test_plain_random_numbers_are_told():
    def factory():
        layer = nn.Linear(3, 4)
        layer.bias.data.fill_(random.random())
        return layer

    (note,) = recording(build(factory)).assumed
    assert "uses random's own generator" in note
