"""A model by name: built without memory or for real, or refused with one clear message."""

import json
import re
import sys

import pytest
import torch
from torch import nn

from stepzero.errors import ModelError
from stepzero.laws import Normal
from stepzero.network import load_model, recording

FILE = """
import numpy
from neighbour import WIDTH
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=WIDTH, depth=1):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))
        self.scale = nn.Parameter(torch.randn(width))
        self.again = self.scale
        self.register_buffer("grid", torch.linspace(0, 1, width))

def make(width):
    return Net(width)

def fails():
    raise RuntimeError("no such file: weights.pt")

def quits():
    raise SystemExit(3)

def reads_its_weights():
    net = Net(4)
    nn.init.constant_(net.scale, 2.0)
    net.doubled = float(net.scale.sum())
    return net

built = Net(2)
number = 3
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(FILE)
    (tmp_path / "neighbour.py").write_text("WIDTH = 5\n")
    (tmp_path / "broken.py").write_text("x = 1\nreturn\n")
    monkeypatch.delitem(sys.modules, "neighbour", raising=False)
    return tmp_path


def test_parameters_take_no_memory_and_buffers_are_real(place):
    model = load_model(f"{place}/net.py:Net", {"depth": 2})
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model.grid.tolist() == torch.linspace(0, 1, 5).tolist()
    assert model.again is model.scale
    assert len(model.layers) == 2


def test_on_cpu_the_author_s_own_init_runs(place):
    model = load_model(f"{place}/net.py:Net", device="cpu")
    assert model.layers[0].weight.std() > 0


def test_a_constructor_that_needs_numbers_is_run_for_real(place):
    model = load_model(f"{place}/net.py:reads_its_weights")
    assert model.doubled == 8.0
    assert {p.device.type for p in model.parameters()} == {"cpu"}


def test_a_module_may_stand_where_a_factory_does(place):
    assert load_model(f"{place}/net.py:built").scale.shape == (2,)


def test_modules_are_found_on_the_path_and_in_the_working_directory(place, monkeypatch):
    monkeypatch.chdir(place)
    before = list(sys.path)
    assert load_model("torch.nn:Linear", {"in_features": 2, "out_features": 3}).weight.is_meta
    assert load_model("net:Net").scale.shape == (5,)
    assert sys.path == before
    del sys.modules["net"]


def test_the_global_random_state_stays(place):
    before = torch.get_rng_state()
    load_model(f"{place}/net.py:Net", device="cpu")
    assert torch.equal(before, torch.get_rng_state())


REFUSED = {
    "net.py:Nett": "there is no 'Nett' in it. Did you mean Net?",
    "net.py:number": "is an int, neither a module nor a function",
    "nett.py:Net": "Did you mean net.py?",
    "net.py:fails": "raised RuntimeError in {}/net.py, line 19: no such file: weights.pt",
    "net.py:quits": "raised SystemExit in {}/net.py, line 22: 3",
    "net.py:make": "missing a required argument: 'width'. It takes width.",
    "broken.py:Net": "cannot be imported: SyntaxError",
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_are_refused_with_the_line_or_the_nearest_name(place, name):
    with pytest.raises(ModelError, match=re.escape(REFUSED[name].format(place))):
        load_model(f"{place}/{name}")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("resnet50", "'resnet50' does not name a model. Write path/to/file.py:factory"),
        ("no.such.module:f", "there is no module 'no.such.module'"),
        ("json:dumps", "missing a required argument"),
        ("torchvision:resnet19", "Did you mean resnet1"),
        ("timm:resnet5", "Did you mean resnet50"),
        ("hf:nowhere/config.json", "there is no file nowhere/config.json"),
        ("collections:OrderedDict", "returned a OrderedDict, not a torch.nn.Module"),
    ],
)
def test_names_are_refused_with_what_to_write_instead(name, match):
    with pytest.raises(ModelError, match=re.escape(match)):
        load_model(name)


def test_unknown_arguments_are_named_with_the_nearest():
    with pytest.raises(ModelError, match=r"'in_feature'.*Did you mean in_features|missing.*Did you mean in_features"):
        load_model("torch.nn:Linear", {"in_feature": 2, "out_features": 3})


def test_torchvision_models_never_download():
    model = load_model("torchvision:lraspp_mobilenet_v3_large", {"num_classes": 3})
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_timm_models_take_arguments():
    assert load_model("timm:resnet18", {"num_classes": 3}).fc.weight.shape == (3, 512)


def config(place, **settings):
    path = place / "config.json"
    path.write_text(json.dumps(settings))
    return f"hf:{path}"


def test_transformers_configurations_give_the_architecture_that_they_name(place):
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    name = config(place, model_type="bert", architectures=["BertForMaskedLM"], **sizes)
    model = load_model(name, {"intermediate_size": 12})
    assert type(model).__name__ == "BertForMaskedLM"
    assert model.bert.encoder.layer[0].intermediate.dense.weight.shape == (12, 8)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    with pytest.raises(ModelError, match=r"bert has no setting 'hidden_sizes'\. Did you mean hidden_size"):
        load_model(name, {"hidden_sizes": 3})


def test_diffusers_configurations_give_the_class_that_they_name(place):
    name = config(place, _class_name="AutoencoderTiny", encoder_block_out_channels=[8], decoder_block_out_channels=[8],
                  num_encoder_blocks=[1], num_decoder_blocks=[1])  # fmt: skip
    assert type(load_model(name)).__name__ == "AutoencoderTiny"


@pytest.mark.parametrize(("settings", "match"), [({"x": 1}, "neither a model_type"), (None, "is not JSON")])
def test_other_json_is_refused(place, settings, match):
    name = config(place, **(settings or {}))
    if settings is None:
        (place / "config.json").write_text("{")
    with pytest.raises(ModelError, match=match):
        load_model(name)


def test_lazy_modules_pass_through_for_capture_to_refuse():
    assert isinstance(load_model("torch.nn:LazyLinear", {"out_features": 3}), nn.LazyLinear)


def test_the_author_s_own_init_is_recorded_on_request(place):
    model = load_model(f"{place}/net.py:Net", record=True)
    assert recording(model)["scale"].law == Normal(1.0)
    assert recording(load_model(f"{place}/net.py:Net")) is None
