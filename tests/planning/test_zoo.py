"""Small instances of many architectures: planned, given memory that starts as NaN, and run."""

import math
import runpy
from pathlib import Path

import pytest
import torch

from stepzero import build, materialize_, plan
from stepzero.network import parameter_slots, real_inputs, tensors_in

SMALL = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "small_models.py"))["SMALL"]
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
