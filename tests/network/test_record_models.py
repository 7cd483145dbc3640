"""Sixty models of five libraries: each is built, recorded and written without a hole; the real draws of twenty follow their laws."""

import random
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from stepzero.filling import _materialize
from stepzero.network import buffer_slots, build, import_torchvision, parameter_slots, recording

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = runpy.run_path(str(BENCHMARKS / "small_models.py"))["SMALL"]
against_laws = runpy.run_path(str(BENCHMARKS / "draws.py"))["tested"]
# The large ones of the table, and those that another one of its family stands for.
LEFT_OUT = frozenset(
    [
        "torchvision:alexnet",
        "torchvision:vgg11",
        "torchvision:vgg11_bn",
        "torchvision:resnext50_32x4d",
        "torchvision:vit_b_16",
        "torchvision:r3d_18",
        "torchvision:convnext_tiny",
        "torchvision:swin_v2_t",
        "torchvision:googlenet",
        "torchvision:densenet121",
        "torchvision:efficientnet_b0",
        "timm:fastvit_t8",
        "timm:repvit_m0_9",
        "timm:gmlp_ti16_224",
        "timm:resnetv2_50",
        "timm:nfnet_l0",
        "timm:regnetz_005",
        "timm:res2net50_14w_8s",
        "timm:seresnext26t_32x4d",
        "timm:repvgg_a0",
        "timm:efficientformer_l1",
        "timm:deit_tiny_distilled_patch16_224",
        "timm:beit_base_patch16_224",
        "timm:mixer_s32_224",
        "timm:swin_tiny_patch4_window7_224",
        "timm:swinv2_cr_tiny_ns_224",
        "timm:maxvit_rmlp_pico_rw_256",
        "timm:coatnet_nano_rw_224",
        "timm:mvitv2_tiny",
        "timm:sequencer2d_s",
        "timm:volo_d1_224",
        "timm:rexnet_100",
        "timm:xcit_nano_12_p16_224",
        "monai:DenseNet121",
    ]
)
SAMPLE = [name for name in SMALL if name not in LEFT_OUT]
DRAWN = SAMPLE[::3]
ALARM = 0.01 / 40_000  # 1 % over all tests of all models
MOST = 40_000 // 20  # tests of one model


def test_the_sample_is_sixty_models_of_five_libraries():
    assert len(SAMPLE) == 60
    assert len(DRAWN) == 20
    assert {name.partition(":")[0] for name in DRAWN} == {"torchvision", "timm", "monai", "transformers", "diffusers"}


@pytest.fixture
def nan_memory(monkeypatch):
    original = _materialize.empty_like

    def poisoned(tensor, device):
        made = original(tensor, device)
        return made.fill_(float("nan")) if made.is_floating_point() else made.fill_(-99)

    monkeypatch.setattr(_materialize, "empty_like", poisoned)


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("name", SAMPLE)
def test_recorded_models_are_known_and_written_without_a_hole(name, nan_memory):
    """Every law is known, every element written; of twenty models, every tensor is tested against what the constructor draws."""
    import_torchvision()
    model = build(SMALL[name][0])
    found = recording(model)
    assert found.rung == "meta"
    assert not found.unread()
    _materialize.materialize_(model, {})
    for key, slot in {**parameter_slots(model), **buffer_slots(model)}.items():
        assert not (slot.tensor.is_floating_point() and slot.tensor.isnan().any()), key
    if name in DRAWN:
        results = list(against_laws(found, [drawn(name)]))
        assert len(results) <= MOST
        assert [result for result in results if result[2] < ALARM] == []


def drawn(name):
    """Return the tensors of a model as its constructor draws them."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    model = SMALL[name][0]()
    return {key: slot.tensor for key, slot in {**parameter_slots(model), **buffer_slots(model)}.items()}
