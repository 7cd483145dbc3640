"""What an op makes on meta is remembered by the geometry of its arguments, and made again exactly."""

import pytest
import torch
import torch.nn.functional as F

from stepzero.network import _remembered as remembered
from stepzero.network._ops import Call

META = torch.device("meta")
aten = torch.ops.aten


def tensor(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device=META)


CALLS = {
    "layer_norm": (aten.layer_norm.default, (tensor(2, 5, 8), [8])),
    "of a permuted tensor": (aten.gelu.default, (tensor(2, 3, 4, 5).permute(0, 2, 3, 1),)),
    "with promotion": (aten.add.Tensor, (tensor(3, 4, dtype=torch.int64), tensor(4))),
    "by a number": (aten.mul.Tensor, (tensor(3, dtype=torch.int64), 2)),
    "by another type of number": (aten.mul.Tensor, (tensor(3, dtype=torch.int64), 2.0)),
    "several outputs": (aten.topk.default, (tensor(3, 9), 2)),
    "list": (aten.cat.default, ([tensor(3, 2), tensor(3, 5)], 1)),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_second_call_makes_what_the_first_made(name, monkeypatch):
    monkeypatch.setattr(remembered, "_MADE", {})
    func, args = CALLS[name]
    first, second = (remembered.run_once(Call.of(func, args, {})) for _ in range(2))
    one, two = (r if isinstance(r, tuple) else (r,) for r in (first, second))
    assert len(remembered._MADE) == 1
    for a, b in zip(one, two, strict=True):
        assert (a.shape, a.stride(), a.dtype, b.device) == (b.shape, b.stride(), b.dtype, META)
        assert a.untyped_storage()._cdata != b.untyped_storage()._cdata


def test_numbers_of_different_types_are_different_calls(monkeypatch):
    monkeypatch.setattr(remembered, "_MADE", {})
    results = [remembered.run_once(Call.of(aten.mul.Tensor, (tensor(3, dtype=torch.int64), x), {})) for x in (1, 1.0)]
    assert [r.dtype for r in results] == [torch.int64, torch.float32]


def test_views_writes_and_returned_arguments_are_never_remembered(monkeypatch):
    monkeypatch.setattr(remembered, "_MADE", {})
    x = tensor(2, 6)
    for func, args in (
        (aten.view.default, (x, [3, 4])),
        (aten.relu_.default, (x,)),
        (aten.dropout.default, (x, 0.5, False)),
    ):
        remembered.run_once(Call.of(func, args, {}))
    assert remembered._MADE == {}
    assert F.dropout(x, 0.5, training=False) is x  # which is why


def test_the_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(remembered, "_MADE", {})
    monkeypatch.setattr(remembered, "MOST", 3)
    for size in range(1, 9):
        remembered.run_once(Call.of(aten.neg.default, (tensor(size),), {}))
    assert 1 <= len(remembered._MADE) <= 3
