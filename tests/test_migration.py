"""The migration page: what it says to write instead is there, and runs."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import stepzero as sz
from stepzero import init, laws

PAGE = Path(__file__).parents[1] / "docs" / "migration.md"


def advice():
    """The right-hand expressions of every table row."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) > 1 and (code := re.fullmatch(r"`(.+)`", cells[1])):
            yield code.group(1)


@pytest.mark.parametrize("code", dict.fromkeys(advice()))
def test_what_the_page_advises_runs(code):
    layer = nn.LSTM(4, 8) if "orthogonal_(layer)" in code else nn.Conv2d(4, 8, 3)
    names = {"sz": sz, "init": init, "laws": laws, "w": torch.empty(8, 4, 3, 3), "layer": layer, "shape": (8, 4, 3, 3)}
    assert eval(code, names) is not None  # the page is ours


def test_the_page_covers_every_library():
    assert len(list(advice())) > 30


def test_the_numbers_on_the_page():
    assert sz.gain("tanh") == pytest.approx(1.59253742, abs=5e-9)
    assert tuple(sz.fans((4, 4, 3, 512), layout="HWOI", transposed=True, stride=2)) == (2048, 48)
    assert laws.Constant(-4.59511985).value == pytest.approx(-torch.logit(torch.tensor(0.99)).item(), abs=1e-5)


def test_caffe2s_xavier_is_kaiming_with_a_slope_of_one():
    layer = init.kaiming_uniform_(nn.Conv2d(4, 64, 3), a=1)
    assert layer.weight.abs().max().item() == pytest.approx((3 / 36) ** 0.5, rel=0.01)
