"""Channels that are alike are computed once, and come back in their places."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from stepzero.moments import _roles as R
from stepzero.moments._distinct import distinct_channels
from stepzero.moments._signal import Moments


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2)), min_size=1, max_size=6), st.booleans())
def test_runs_of_equal_channels_are_gathered_and_put_back(runs, last):
    values = torch.tensor([float(v) for n, v in runs for _ in range(n)], dtype=torch.float64)
    n = values.numel()
    shape = (2, 4, n) if last else (2, n, 4)
    roles = R.guess(shape, channel_last=last)
    channel = values.reshape((1, 1, n) if last else (1, n, 1))
    place = torch.arange(4.0, dtype=torch.float64).reshape((1, 4, 1) if last else (1, 1, 4))
    lean = torch.ones(1, 1, 1, dtype=torch.float64)
    m = Moments(lean, channel + place, channel, lean, place, channel * place)
    part, back = distinct_channels(m, roles)
    axis = 2 if last else 1
    changes = 1 + int((values[1:] != values[:-1]).sum())
    assert part.second.shape[axis] == changes
    for before, after in zip(m, part.each(back), strict=True):
        assert torch.equal(before.expand(1, *shape[1:]), after.expand(1, *shape[1:]))
