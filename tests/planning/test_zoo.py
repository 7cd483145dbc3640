"""Small instances of many architectures: planned, given memory that starts as NaN, and run."""

import importlib
import math
import runpy
from pathlib import Path

import pytest
import torch

from stepzero import build, materialize_, plan
from stepzero.network import parameter_slots, real_inputs, tensors_in

SMALL = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "small_models.py"))["SMALL"]
ODD = [  # of the tables of benchmarks/zoo.py
    *("transformers:MiniMaxModel", "transformers:VJEPA2Model", "transformers:Idefics2Model"),
    *("transformers:Qwen2VLModel", "transformers:SpeechT5ForTextToSpeech"),
    *("diffusers:StableCascadeUNet", "monai:ControlNet", "monai:LocalNet", "torch:GRU"),
]
SAMPLE = [
    *("torchvision:resnet18", "torchvision:mobilenet_v3_small", "torchvision:squeezenet1_1"),
    *(
        "timm:nf_resnet26",
        "timm:convnextv2_atto",
        "timm:vit_tiny_patch16_224",
        "timm:mixer_s32_224",
        "timm:cait_xxs24_224",
    ),
    *("monai:UNet", "monai:VQVAE", "monai:AutoencoderKL", "monai:SegResNet"),
    *("transformers:LlamaForCausalLM", "transformers:BertModel", "transformers:GPT2Model", "transformers:T5Model"),
    *(
        "transformers:MixtralModel",
        "transformers:ViTModel",
        "transformers:Wav2Vec2Model",
        "transformers:BloomModel",
        "transformers:OPTModel",
    ),
    *(
        "diffusers:UNet2DModel",
        "diffusers:UNet2DConditionModel",
        "diffusers:DiTTransformer2DModel",
        "diffusers:AutoencoderTiny",
    ),
]


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("name", SAMPLE)
def test_architectures_are_planned_filled_and_run(name):
    torch.set_num_threads(1)
    make, inputs = SMALL[name]
    model = build(make)
    made = plan(model, inputs)
    assert set(parameter_slots(model)) <= set(made)  # buffers that are drawn come on top
    for entry in made.entries:
        assert entry.law.kind == "kept" or math.isfinite(entry.law.moments(entry.shape)[1].max())
        assert entry.second_moment is None or math.isfinite(entry.second_moment)
    torch.use_deterministic_algorithms(True, warn_only=True)  # fresh memory is NaN
    try:
        materialize_(model, made, seed=0)
    finally:
        torch.use_deterministic_algorithms(False)
    assert not [key for key, t in model.state_dict().items() if t.is_meta or t.isnan().any()]
    call = real_inputs(inputs)
    with torch.no_grad():
        outputs = tensors_in(model(*call.args, **call.kwargs))
    assert all(bool(t.isfinite().all()) for t in outputs if t.is_floating_point())


@pytest.fixture
def zoo(monkeypatch):
    """The tables of benchmarks/zoo.py."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("zoo_plan")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ODD)
def test_odd_architectures_are_planned_whole(zoo, name):
    torch.set_num_threads(1)
    row = zoo.measure_plan(name)
    assert (row.ok, row.message) == (True, "")
    assert row.filled == "yes"
    assert row.odd == 0


def test_the_table_of_plans_names_what_failed_and_why(zoo):
    rows = [
        zoo.PlanRow(
            "timm:one", True, "timm/a", 1.5, nodes=9, parameters=4, filled="yes", memory=0.5, probed={"topk": 2}
        ),
        zoo.PlanRow("timm:two", True, "timm/a", 2.5, nodes=9, parameters=4, filled="ApplyError: of 3 tensors", odd=2),
        zoo.PlanRow("timm:three", False, "timm/b", message="InputError: it does not fit"),
    ]
    table = zoo.plan_table(rows)
    assert "| timm/a | 2 | 2 | 1 of 2 | 8 | 0 | 18 | 2 | 0 | 2 | 2.00 | 2.50 | 0.50 |" in table
    assert "| timm/b | 1 | 0 | 0 of 0 |" in table
    assert "- topk: 2 / 0 in 1 models" in table
    assert "- timm:three: InputError: it does not fit" in table
    assert "- timm:two: ApplyError: of 3 tensors" in table
    assert "- timm:two: 2" in table


def test_rounds_of_timm_take_one_model_of_each_module_small_ones_first(zoo):
    models = importlib.import_module("zoo_models")
    order = [name for name in models.names({"timm:vgg19": 1}) if name.startswith("timm:")]
    modules = len(set(map(models.family, order)))
    assert len(order) == len(set(order)) > 1000
    assert len(set(map(models.family, order[:modules]))) == modules
    assert [name for name in order if "vgg" in name][:1] == ["timm:vgg19"]
