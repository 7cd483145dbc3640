"""Fans of shapes: the article's numbers, every geometry, layouts, equations, packed and tied weights, and bad input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import init

from stepzero.errors import FanError, RecipeError
from stepzero.theory import Fans, fan_pattern, fans, tied


def test_the_articles_numbers():
    assert fans((32, 1, 5, 5)) == Fans(25, 800)
    fan_in, fan_out = fans((32, 1, 5, 5))
    assert (fan_in, fan_out) == (25, 800)
    assert repr(fans((32, 1, 5, 5))) == "Fans(fan_in=25, fan_out=800)"


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5))
def test_a_bare_shape_has_torchs_fans(shape):
    assert tuple(fans(tuple(shape))) == init._calculate_fan_in_and_fan_out(torch.empty(shape))


@pytest.mark.parametrize(
    "given_as", [(3, 4, 5), [3, 4, 5], torch.Size((3, 4, 5)), np.empty((3, 4, 5)), torch.empty(3, 4, 5)]
)
def test_a_shape_may_come_as_a_tuple_a_list_an_array_or_a_tensor(given_as):
    assert fans(given_as) == Fans(20, 15)


GEOMETRIES = [  # the numbers of He et al.'s derivation without its assumptions: stride, groups, borders, transposition
    ((768, 3, 16, 16), {"stride": 16}, (768, 768)),
    ((512, 1, 3, 3), {"groups": 512}, (9, 9)),
    ((512, 3, 4, 4), {"transposed": True, "stride": 2}, (2048, 48)),
    ((64, 64, 4, 4), {"transposed": True, "stride": 2, "groups": 4}, (64, 1024)),
    ((16, 8, 3, 3), {"padding": 1, "input_size": 7}, (58.9387755, 117.877551)),
    ((16, 8, 3, 3), {"padding": 1, "input_size": 2}, (32, 64)),
    ((16, 8, 3, 3), {"padding": 1, "stride": 2, "input_size": 14}, (65.3061224, 32.6530612)),
    ((64, 3, 7, 7), {"padding": 3, "stride": 2, "input_size": 32}, (131.6718750, 702.25)),
    ((8, 8, 1, 1), {"stride": 2, "input_size": 14}, (8, 2)),
    ((4, 2, 3, 3), {"padding": 2, "dilation": 2, "input_size": 8}, (12.5, 25)),
    ((9, 8, 3, 3), {"input_size": 8}, (72, 45.5625)),
    ((8, 8, 3, 3), {"padding": 1, "input_size": 8, "padding_mode": "circular"}, (72, 72)),
    ((8, 8, 3, 3), {"padding": 1, "input_size": 8, "padding_mode": "reflect"}, (72, 72)),
    ((8, 8, 3, 3), {"padding": 1, "input_size": 8, "padding_mode": "replicate"}, (72, 72)),
    ((8, 8, 3, 3), {"padding": "same", "input_size": 8}, (60.5, 60.5)),
    ((8, 8, 3, 3), {"padding": "valid", "input_size": 8}, (72, 40.5)),
    ((8, 8, 3), {"padding": ((2, 0),), "input_size": 8}, (21, 21)),  # a causal convolution
    ((6, 4, 3, 5), {"stride": (1, 2)}, (60, 45)),
]


@pytest.mark.parametrize(("shape", "geometry", "expected"), GEOMETRIES)
def test_every_geometry_has_its_fans(shape, geometry, expected):
    assert tuple(fans(shape, **geometry)) == pytest.approx(expected, rel=1e-8)


SHAPES = [
    ((768, 2304), {"layout": "IO"}, (768, 2304)),  # GPT-2's Conv1D
    ((8, 1024, 512), {"layout": "EIO"}, (1024, 512)),  # stacked experts
    ((8, 512, 1024), {"layout": "EOI"}, (1024, 512)),
    ((3, 3, 16, 32), {"layout": "HWIO"}, (144, 288)),  # JAX, Keras
    ((3, 3, 64, 1), {"layout": "HWGO"}, (9, 9)),  # Keras DepthwiseConv2D
    ((3, 3, 32, 16), {"layout": "HWOI", "transposed": True, "stride": 2}, (36, 288)),  # Keras Conv2DTranspose
    ((1536, 512), {"parts": 3}, (512, 512)),  # packed q/k/v
    ((1024, 100), {"parts": 4}, (100, 256)),  # LSTM gates
    ((8, 512, 256), {"einsum": "abc,bcd->abd"}, (512, 256)),
    ((4, 5, 6), {"einsum": "abc,cde->abde"}, (4, 30)),
    ((12, 64, 768), {"einsum": "bqhd,hdm->bqm"}, (768, 768)),  # attention's read-out
    ((768, 12, 64), {"einsum": "...m,mhd->...hd"}, (768, 768)),
    ((12, 64), {"einsum": "hd,bsd->bshd"}, (1, 12)),  # the weight stands first; d is a copy
]


@pytest.mark.parametrize(("shape", "reading", "expected"), SHAPES)
def test_every_layout_has_its_fans(shape, reading, expected):
    assert tuple(fans(shape, **reading)) == expected


def test_einsum_agrees_with_what_the_sum_does_to_variances():
    """E‖∂y/∂x‖² over unit-variance weights, counted by putting ones for all of them."""
    equation, shape = "btc,cde->btde", (4, 5, 6)
    x = torch.ones(2, 3, 4, requires_grad=True)
    y = torch.einsum(equation, x, torch.ones(shape))
    (used,) = torch.autograd.grad(y.sum(), x)
    found = fans(shape, einsum=equation)
    assert (y.unique().item(), used.unique().item()) == tuple(found)


@given(
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 9), st.integers(1, 5), st.integers(0, 4), st.integers(4, 30)
)
def test_the_fans_differ_by_the_sizes_of_the_maps(channels_in, channels_out, kernel, stride, padding, size):
    if size + 2 * padding < kernel:
        size += kernel
    assume(padding < kernel or stride == 1)  # else an output, or all of them, may see nothing but padding
    found = fans((channels_out, channels_in, kernel), stride=stride, padding=padding, input_size=size)
    out_size = (size + 2 * padding - kernel) // stride + 1
    ratio = (channels_out * out_size) / (channels_in * size)
    assert found.fan_out / found.fan_in == pytest.approx(ratio, rel=1e-12)


def test_an_uneven_stride_reports_its_phases_and_their_spread():
    found = fans((64, 32, 3, 3), transposed=True, stride=2)
    assert sorted(found.fan_in_phases) == [64, 128, 128, 256]
    assert np.mean(found.fan_in_phases) == found.fan_in == 144
    assert found.forward_spread == 4
    assert found.backward_spread == 1
    assert "forward_spread=4" in repr(found)
    assert fans((64, 32, 4, 4), transposed=True, stride=2).forward_spread == 1
    assert fans((64, 32, 2, 2), transposed=True, stride=3).forward_spread == math.inf  # holes
    assert fans((64, 32, 3, 3), stride=2).backward_spread == 4  # the same checkerboard in the gradient


def test_the_pattern_of_a_bordered_map_averages_to_the_fan():
    geometry = {"padding": 1, "stride": 2, "input_size": (7, 9)}
    pattern, found = fan_pattern((16, 8, 3, 3), **geometry), fans((16, 8, 3, 3), **geometry)
    assert pattern.fan_in.shape == (4, 5)
    assert pattern.fan_out.shape == (7, 9)
    assert pattern.fan_in.mean() == pytest.approx(found.fan_in, rel=1e-14)
    assert pattern.fan_out.mean() == pytest.approx(found.fan_out, rel=1e-14)
    assert (pattern.fan_in[0, 0], pattern.fan_in[1, 1]) == (32, 72)


def test_a_tied_weight_misses_equally_at_each_use():
    found = tied(Fans(1, 512), Fans(512, 50000))
    assert 1 / math.sqrt(found.fan_in) == pytest.approx(512**-0.25)
    assert found.fan_in_phases == (1, 512)
    with pytest.raises(FanError, match="at least one use"):
        tied()


def test_modes_choose_a_fan():
    found = Fans(100, 400)
    assert [found.of(mode) for mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")] == [100, 400, 250, 200]
    with pytest.raises(
        RecipeError, match=r"mode='fan_middle' is not a fan. Choose one of fan_in, fan_out, fan_avg, fan_geo_avg"
    ):
        found.of("fan_middle")


def test_fans_turn_into_plain_data():
    assert fans((32, 1, 5, 5)).to_dict() == {"fan_in": 25, "fan_out": 800}
    assert fans((2, 2, 3), stride=2).to_dict()["fan_out_phases"] == [4, 2]


BAD = [
    ((7,), {}, r"a weight needs at least 2 axes \(out, in, \*kernel\), got shape \(7,\). Biases and norm gains have no fan"),
    ((0, 3), {}, r"shape \(0, 3\) has no elements"),
    (3, {}, "3 is no shape"),
    ((3, 3.5), {}, r"shape=3\.5 is not a whole number"),
    ((3, -1), {}, "shape=-1"),
    ((3, 4, 3), {"groups": 2}, r"groups=2 does not divide 3 of shape \(3, 4, 3\)"),
    ((3, 4, 3), {"groups": 0}, "groups=0 is not a whole number ≥ 1"),
    ((4, 4), {"parts": 3}, "parts=3 does not divide 4"),
    ((4, 4, 3), {"stride": 0}, "stride=0"),
    ((4, 4, 3), {"stride": True}, "stride=True"),
    ((4, 4, 3, 3), {"stride": (1, 2, 3)}, r"stride=\(1, 2, 3\) has 3 entries, but the kernel has 2"),
    ((4, 4, 3), {"dilation": 0}, "dilation=0"),
    ((4, 4, 3), {"padding": -1}, "padding=-1"),
    ((4, 4, 3), {"padding": "big"}, "padding='big' is unknown"),
    ((4, 4, 3), {"padding_mode": "mirror"}, "Choose one of zeros, circular, replicate, reflect"),
    ((4, 4, 3), {"padding": 3, "padding_mode": "reflect", "input_size": 3}, "wider than the map"),
    ((4, 4, 3), {"padding_mode": "reflect", "transposed": True}, "pads with zeros only"),
    ((4, 4, 3), {"input_size": 2}, "has no output on 2 positions"),
    ((4, 4, 3), {"input_size": 0}, "input_size=0"),
    ((4, 4, 2), {"padding": 1, "stride": 9, "dilation": 2, "input_size": 1}, "no tap of this kernel ever hits"),
    ((3, 3), {"layout": "HWIO"}, r"layout='HWIO' names 4 axes, but shape \(3, 3\) has 2"),
    ((3, 3), {"layout": "II"}, "one O"),
    ((3, 3), {"layout": "IO", "einsum": "ab,bc->ac"}, "Give one of them"),
    ((3, 3), {"einsum": "ab,bc"}, "is not of the form"),
    ((3, 3, 3), {"einsum": "ab,bc->ac"}, "no operand has the 3 axes"),
    ((3, 3), {"einsum": "ab,bb->a"}, "repeats an axis"),
    ((3, 3), {"einsum": "abx,bc->ac"}, "sums axis 'x' of the input"),
    ((3, 3), {"weight": "weight"}, "a shape has just one"),
]  # fmt: skip


def test_a_misspelt_setting_is_named():
    with pytest.raises(FanError, match=r"strides= is no setting of a weight\. Choose among groups"):
        fan_pattern((3, 3, 3), strides=2)


@pytest.mark.parametrize(("shape", "geometry", "message"), BAD)
def test_what_has_no_fan_is_refused_by_name(shape, geometry, message):
    with pytest.raises(FanError, match=message):
        fans(shape, **geometry)
