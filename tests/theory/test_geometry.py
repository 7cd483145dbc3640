"""The closed form of every tap count against counting, and counting against torch's own convolutions."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from stepzero.errors import FanError
from stepzero.theory._geometry import Axis

MODES = ["zeros", "reflect", "replicate", "circular"]
AXES = st.builds(
    Axis,
    kernel=st.integers(1, 7),
    stride=st.integers(1, 5),
    dilation=st.integers(1, 3),
    left=st.integers(0, 5),
    right=st.integers(0, 5),
    size=st.integers(1, 24),
    mode=st.sampled_from(MODES),
)
TRANSPOSED = st.builds(
    lambda kernel, stride, dilation, padding, extra, size: Axis(
        kernel, stride, dilation, padding, padding, extra % max(stride, dilation), size, transposed=True
    ),
    st.integers(1, 7), st.integers(1, 5), st.integers(1, 3), st.integers(0, 5), st.integers(0, 4), st.integers(1, 24),
)  # fmt: skip


def fits(axis):
    try:
        _ = axis.out_size
    except FanError:
        return False
    if axis.mode == "reflect":
        return max(axis.left, axis.right) < axis.size
    if axis.mode == "circular":
        return max(axis.left, axis.right) <= axis.size
    return True


@settings(max_examples=400)
@given(AXES | TRANSPOSED)
def test_the_closed_form_is_what_counting_gives(axis):
    assume(fits(axis))
    per_output, per_input = axis.counts()
    forward, backward = axis.ratios
    assert (per_output.size, per_input.size) == (axis.out_size, axis.size)
    assert per_output.sum() == per_input.sum() == axis.hits()
    assert forward == pytest.approx(per_output.mean(), rel=1e-15)
    assert backward == pytest.approx(per_input.mean(), rel=1e-15)


@settings(max_examples=200)
@given(AXES)
def test_counting_is_what_torch_does_to_a_map_of_ones(axis):
    assume(fits(axis))
    x = torch.ones(1, 1, axis.size, dtype=torch.float64)
    pad = {"zeros": "constant"}.get(axis.mode, axis.mode)
    x.requires_grad_()
    y = F.conv1d(
        F.pad(x, (axis.left, axis.right), pad),
        torch.ones(1, 1, axis.kernel).double(),
        None,
        axis.stride,
        0,
        axis.dilation,
    )
    check(axis, x, y)


@settings(max_examples=200)
@given(TRANSPOSED)
def test_counting_is_what_torch_does_to_a_transposed_map_of_ones(axis):
    assume(fits(axis))
    x = torch.ones(1, 1, axis.size, dtype=torch.float64, requires_grad=True)
    y = F.conv_transpose1d(
        x, torch.ones(1, 1, axis.kernel).double(), None, axis.stride, axis.left, axis.output_padding, 1, axis.dilation
    )
    check(axis, x, y)


def check(axis, x, y):
    (used,) = torch.autograd.grad(y.sum(), x)
    per_output, per_input = axis.counts()
    np.testing.assert_array_equal(per_output, y.detach().flatten().numpy())
    np.testing.assert_array_equal(per_input, used.flatten().numpy())


@pytest.mark.parametrize("n", [2, 3, 4, 7, 8, 14, 28])
@pytest.mark.parametrize("k", [3, 5])
def test_same_padding_loses_what_the_border_formula_says(n, k):
    half = (k - 1) // 2
    axis = Axis(k, left=half, right=half, size=n)
    assert axis.hits() == (k * n - half * (half + 1) if n >= half else axis.counts()[0].sum())


@settings(max_examples=100)
@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 3), st.booleans())
def test_the_interior_is_the_limit_of_a_large_map(kernel, stride, dilation, transposed):
    large = Axis(kernel, stride, dilation, size=60 * stride + dilation * (kernel - 1) + 1, transposed=transposed)
    inside = Axis(kernel, stride, dilation, transposed=transposed)
    assert float(inside.ratios[0]) == pytest.approx(float(large.ratios[0]), rel=0.3)
    uneven = large.counts()[0 if transposed else 1]
    middle = (uneven.size // (2 * stride)) * stride
    np.testing.assert_array_equal(uneven[middle : middle + stride], inside.counts()[0 if transposed else 1])


def test_phases_of_a_stride_that_does_not_divide_the_kernel():
    np.testing.assert_array_equal(Axis(3, stride=2, transposed=True).counts()[0], [2, 1])
    np.testing.assert_array_equal(Axis(3, stride=2).counts()[1], [2, 1])
    np.testing.assert_array_equal(Axis(4, stride=2, transposed=True).counts()[0], [2, 2])
    np.testing.assert_array_equal(Axis(2, stride=3, transposed=True).counts()[0], [1, 1, 0])  # a hole


def test_a_kernel_that_does_not_fit_is_an_error():
    with pytest.raises(FanError, match=r"a kernel of 3 \(dilation 1, padding 0\+0\) has no output on 2 positions"):
        Axis(3, size=2).hits()
