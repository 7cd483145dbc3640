"""Every way to say what a model is called with comes down to one value."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stepzero.errors import InputError
from stepzero.network import ModelInputs, TensorSpec, parse_spec, real_inputs

X = torch.zeros(2, 3)
SPEC = TensorSpec((2, 3))


@pytest.mark.parametrize(
    ("inputs", "args", "kwargs"),
    [
        (X, (X,), {}),
        ((2, 3), (SPEC,), {}),
        ([2, 3], (SPEC,), {}),
        (torch.Size([2, 3]), (SPEC,), {}),
        (X.shape, (SPEC,), {}),
        ((X, X), (X, X), {}),
        ([(2, 3), (2, 3)], (SPEC, SPEC), {}),
        ((X, (2, 3)), (X, SPEC), {}),
        ("2x3", (SPEC,), {}),
        (["2x3", "ids=1x4:int64"], (SPEC,), {"ids": TensorSpec((1, 4), torch.int64)}),
        ({"args": (X,), "kwargs": {"size": (4, 4)}}, (X,), {"size": (4, 4)}),
        ({"args": (2, 3)}, (SPEC,), {}),
        ({"kwargs": {"x": X}}, (), {"x": X}),
        ({"args": ["x=2x3"], "kwargs": {"y": 1}}, (), {"x": SPEC, "y": 1}),
        ({"input_ids": X}, (), {"input_ids": X}),
        ((), (), {}),
        (ModelInputs((X,)), (X,), {}),
    ],
)
def test_inputs_are_normalised(inputs, args, kwargs):
    call = ModelInputs.of(inputs)
    assert (len(call.args), call.kwargs.keys()) == (len(args), kwargs.keys())
    assert all(a is b or a == b for a, b in zip(call.args, args, strict=True))
    assert all(call.kwargs[name] is value or call.kwargs[name] == value for name, value in kwargs.items())


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        (3, "inputs of type int do not describe a call"),
        ((1, 0, 4), r"shape \(1, 0, 4\) is empty"),
        ((1, -1), "is empty"),
        ("1x3x", "'1x3x' is not of the form"),
        ("1x3:float3", "'float3' is not a tensor type"),
        (["a=1x3", "a=1x4"], "'a' is given twice"),
        ((X, "a=1x3"), "stands among positional arguments"),
        ({"args": (X,), "kwargs": [X]}, r'inputs\["kwargs"\] is a list'),
        ({1: X}, "argument names are strings"),
    ],
)
def test_what_describes_no_call_is_refused(inputs, match):
    with pytest.raises(InputError, match=match):
        ModelInputs.of(inputs)


@given(st.lists(st.integers(1, 999), min_size=1, max_size=6), st.sampled_from(["", "float16", "int64", "bool"]))
def test_a_written_spec_is_read_back(shape, dtype):
    text = "x".join(map(str, shape)) + (f":{dtype}" if dtype else "")
    assert parse_spec(text) == (None, TensorSpec(tuple(shape), getattr(torch, dtype or "float32")))
    assert parse_spec(f"name={text}")[0] == "name"


def test_tensors_are_named_after_the_arguments_of_forward():
    def forward(x, *rest, mask=None, **more):
        raise AssertionError

    call = ModelInputs.of({"args": (X, X, [X]), "kwargs": {"mask": {"a": X}, "other": X}})
    assert list(call.named(forward)) == ["x", "rest.0", "rest.1.0", "mask.a", "other"]


def test_real_inputs_keep_what_was_given_and_draw_the_rest_without_the_global_state():
    before = torch.get_rng_state()
    call = real_inputs({"args": (X, "4x5", "3:int64", "2:bool")}, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    given, drawn, integers, flags = call.args
    assert given is X
    assert drawn.shape == (4, 5)
    assert drawn.std() > 0
    assert integers.tolist() == [1, 1, 1]
    assert flags.tolist() == [True, True]
    assert torch.equal(drawn, real_inputs({"args": (X, "4x5")}, seed=1).args[1])


def test_a_call_describes_itself_in_words():
    words = ModelInputs.of(["2x3", "input2=2x3:int64"]).describe(nn.Bilinear(3, 3, 3).forward)
    assert words == "input1: float32 (2, 3), input2: int64 (2, 3)"


def test_shapes_by_name_stand_for_tensors_where_no_tensor_is_given():
    spec = TensorSpec((2, 8))
    assert ModelInputs.of({"x": (2, 8), "ids": "2x4:int64", "mode": "fast"}).kwargs == {
        "x": spec,
        "ids": TensorSpec((2, 4), torch.int64),
        "mode": "fast",
    }
    assert ModelInputs.of({"x": torch.ones(2), "size": (2, 8)}).kwargs["size"] == (2, 8)
    assert ModelInputs.of({"kwargs": {"size": (2, 8)}}).kwargs["size"] == (2, 8)
