"""What is known of tensors: from plans, models and files."""

import math

import pytest
import torch
from torch import nn

import stepzero
from stepzero import filling
from stepzero.errors import FileError
from stepzero.filling._facts import Facts, facts_of
from stepzero.laws import Constant, Kept, Normal, Parts

from .plans import plan_for


def test_the_size_is_that_of_the_values_or_else_of_the_law():
    assert Facts((4,), "float32", Normal(0.3, mean=0.4)).size == pytest.approx(0.5)
    assert Facts((4,), "float32", Normal(0.3), rms=7.0).size == 7.0
    assert Facts((4,), "float32", Kept()).size is None


def test_rows_follow_the_law_of_the_part_that_covers_them():
    law = Parts((((), Normal(1.0)), (((2, 4), (0, 3)), Constant(0.0))))
    facts = Facts((6, 3), "float32", law)
    assert facts.rows(2, 4) == Facts((2, 3), "float32", Constant(0.0))
    assert facts.rows(0, 3).law is None  # no part covers these rows alone


def test_a_model_tells_its_values_and_on_meta_the_laws_of_its_author():
    real = facts_of(nn.Linear(2, 2, bias=False).requires_grad_(False))["weight"]
    assert (real.shape, real.dtype, real.law) == ((2, 2), "float32", None)
    assert real.rms > 0
    hollow = facts_of(stepzero.build(lambda: nn.Linear(2, 2, bias=False)))["weight"]
    assert hollow.law.std == pytest.approx(1 / math.sqrt(6))
    assert hollow.rms is None


def test_a_manifest_vouches_only_for_bytes_with_its_hash(tmp_path):
    from safetensors.torch import load_file, save_file

    model, path = nn.Linear(3, 2), tmp_path / "a.safetensors"
    filling.save(plan_for(model), path, seed=4)
    assert (facts_of(path)["weight"].law, facts_of(path)["weight"].seed) == (Normal(0.02), 4)
    stored = load_file(path)
    save_file({**stored, "weight": stored["weight"] + 1}, path)
    assert facts_of(path)["weight"].law is None
    assert facts_of(path)["bias"].law == Constant(0.0)


def test_what_tells_nothing_is_refused(tmp_path):
    with pytest.raises(TypeError, match="int cannot be compared"):
        facts_of(3)
    with pytest.raises(FileError, match="holds no safetensors file"):
        facts_of(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(FileError, match="not an index of shards"):
        facts_of(tmp_path)


def test_bits_decide_the_hash():
    a, b = (nn.Linear(2, 2).requires_grad_(False) for _ in range(2))
    b.load_state_dict(a.state_dict())
    assert facts_of(a) == facts_of(b)
    b.bias[0] = torch.nextafter(b.bias[0], torch.tensor(9.0))
    assert facts_of(a)["bias"].sha256 != facts_of(b)["bias"].sha256
