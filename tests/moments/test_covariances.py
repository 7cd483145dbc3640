"""Attention between channels, and softmax rows on the right of a product."""

import pytest
import torch
from torch import nn

from stepzero.moments import propagate
from stepzero.network import capture

D, HEADS, TOKENS = 64, 2, 16


class Channels(nn.Module):
    """Cross-covariance attention (El-Nouby et al. 2021)."""

    def __init__(self, fused=False):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(D, D, bias=False) for _ in range(3))
        self.fused = fused

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (HEADS, D // HEADS)).permute(0, 2, 3, 1) for f in (self.q, self.k, self.v))
        if self.fused:
            y = nn.functional.scaled_dot_product_attention(q, k, v, scale=1 / TOKENS)
        else:
            y = (q @ k.transpose(-2, -1) / TOKENS).softmax(-1) @ v
        return y.permute(0, 3, 1, 2).flatten(2)


class Turned(nn.Module):
    """Attention with rows on the left, or transposed on the right."""

    def __init__(self, turned):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(D, D, bias=False) for _ in range(3))
        self.turned = turned

    def forward(self, x):
        rows = (self.q(x) @ self.k(x).transpose(1, 2) * D**-0.5).softmax(-1)
        v = self.v(x)
        return (v.transpose(1, 2) @ rows.transpose(1, 2)).transpose(1, 2) if self.turned else rows @ v


def predicted(module):
    graph = capture(module, (2, TOKENS, D))
    law = torch.tensor(0.0).double(), torch.tensor(1 / D).double()
    flow = propagate(graph, {}, dict.fromkeys(graph.parameters, law), on_unknown="error")
    y = flow.signals[graph.outputs[0]]
    return [*(float(t.mean()) for t in y.moments), *flow.gradients().values()]


def test_rows_mix_channels_place_by_place():
    torch.manual_seed(0)
    found = []
    for _ in range(40):
        net = Channels().double()
        for p in net.parameters():
            nn.init.normal_(p, std=D**-0.5)
        found.append(net(torch.randn(4, TOKENS, D, dtype=torch.float64)).square().mean().detach())
    measured = torch.stack(found)
    second = predicted(Channels())[1]
    assert abs(float(measured.mean()) - second) <= 5 * float(measured.std()) / 40**0.5 + 0.05 * second


def test_fused_and_written_out_attention_between_channels_are_the_same():
    fused, written = (predicted(Channels(f))[:6] for f in (True, False))
    assert written == pytest.approx(fused, rel=1e-6)


def test_transposed_rows_on_the_right_are_rows_on_the_left():
    left, right = (predicted(Turned(turned)) for turned in (False, True))
    assert right == pytest.approx(left, rel=1e-6)
