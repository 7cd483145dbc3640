import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepzero import filling, streams
from stepzero.filling import _accelerator
from stepzero.filling._accelerator import fill_tensor
from stepzero.filling._arrays import as_array
from stepzero.laws import Constant, Dirac, Normal, Orthogonal, TruncatedNormal, Uniform
from stepzero.streams import Region

from .plans import plan_for

LAWS = (
    Normal(0.3),
    Normal(0.3, 1.0),
    Uniform(-1.0, 1.0),
    Uniform(0.0, 0.1),
    TruncatedNormal(0.5),
    TruncatedNormal(1.0, -1.0, 4.0),
)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64)


@settings(max_examples=80)
@given(
    law=st.sampled_from(LAWS),
    corner=st.tuples(st.integers(0, 2**31 - 40), st.integers(0, 2**32 - 200)),
    extent=st.tuples(st.integers(1, 30), st.integers(1, 150)),
    step=st.integers(1, 3),
    dtype=st.sampled_from(DTYPES),
)
def test_torchs_integers_give_the_bits_of_numpy_at_any_offset(law, corner, extent, step, dtype):
    region = Region((2**31, 2**32))[corner[0] : corner[0] + extent[0], corner[1] : corner[1] + extent[1] : step]
    ours, theirs = torch.empty(region.shape, dtype=dtype), torch.empty(region.shape, dtype=dtype)
    fill_tensor(ours, law, 3, "w", region)
    streams.fill(as_array(theirs), law, 3, "w", region, dtype=str(dtype)[6:], engine="numpy")
    assert as_array(ours).tobytes() == as_array(theirs).tobytes()


def test_chunks_change_no_bit(monkeypatch):
    whole, parts = torch.empty(50, 40), torch.empty(40, 50).T
    fill_tensor(whole, Normal(1.0), 0, "w", Region((50, 40)))
    monkeypatch.setattr(_accelerator, "CHUNK", 64)
    fill_tensor(parts, Normal(1.0), 0, "w", Region((50, 40)))
    assert torch.equal(whole, parts)


@pytest.mark.parametrize("law", [Orthogonal(1.0), Dirac(), Constant(0.5), Normal(0.0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_laws_of_whole_tensors_are_the_cpus(law, dtype):
    tensor = torch.empty(6, 4, 3, dtype=dtype)
    fill_tensor(tensor, law, 0, "w", Region((6, 4, 3)))
    np.testing.assert_array_equal(as_array(tensor), streams.draw(law, (6, 4, 3), 0, "w", str(dtype)[6:]))


def test_a_device_without_float64_takes_the_cpus_result(monkeypatch):
    monkeypatch.setattr(_accelerator, "WITHOUT_FLOAT64", frozenset({"cpu"}))
    tensor = torch.empty(9)
    fill_tensor(tensor, Normal(1.0, 0.5), 0, "w", Region((9,)))
    np.testing.assert_array_equal(tensor, streams.draw(Normal(1.0, 0.5), (9,), 0, "w"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_model_on_an_accelerator_has_the_bits_of_the_cpu():
    here, there = torch.nn.Linear(300, 200), torch.nn.Linear(300, 200, device="cuda")
    for model in (here, there):
        filling.apply(plan_for(here, TruncatedNormal(0.02)), model, 0)
    assert torch.equal(here.weight, there.weight.cpu())
