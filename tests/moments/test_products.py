"""Products of two signals beyond attention: the state of linear attention, and what a normaliser beside the values makes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.moments import propagate
from stepzero.network import capture

D, TOKENS = 32, 48
TOKEN_MOMENTS = (0.0, 1.0, 0.1, 0.1, 0.05, 0.05)


class LinearAttention(nn.Module):
    """φ(q)·Σ_n φ(k_n) v_nᵀ with φ = ReLU (Katharopoulos et al. 2020; Cai et al. 2023), up to its division."""

    def __init__(self, normaliser=False):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(D, D, bias=False) for _ in range(3))
        self.normaliser = normaliser

    def forward(self, x):
        q, k, v = F.relu(self.q(x)), F.relu(self.k(x)), self.v(x)
        y = q @ (k.transpose(-2, -1) @ F.pad(v, (0, 1), value=1.0))
        return y[..., -1:] if self.normaliser else y[..., :-1]


def held(hold, loose, **options):
    hold(
        LinearAttention(**options), (4, TOKENS, D), moments=TOKEN_MOMENTS, weight=(0.0, D**-0.5), draws=40,
        channel_last=True, loose=loose, loose_change=dict.fromkeys(("second", "near", "elsewhere", "across", "apart"), 0.15),
    )  # fmt: skip


def test_values_that_a_state_carries(hold):
    held(hold, dict.fromkeys(("second", "near", "elsewhere", "across", "apart"), 0.05))


def test_the_normaliser_beside_them_has_moments_of_its_own(hold):
    held(hold, dict.fromkeys(("mean", "second", "near", "elsewhere", "across", "apart"), 0.05), normaliser=True)


def test_a_change_of_one_row_reaches_that_row_alone():
    class ClassToken(nn.Module):
        """Linear attention of a class token and patches, of which the class token is read."""

        def __init__(self):
            super().__init__()
            self.token, self.patches = nn.Linear(16, 32, bias=False), nn.Linear(16, 32, bias=False)

        def forward(self, x, state):
            queries = torch.cat([self.token(x[:, :1]), self.patches(x[:, 1:])], dim=1)
            return (queries @ state)[:, 0]

    graph = capture(ClassToken(), (torch.zeros(2, 10, 16), torch.zeros(2, 32, 24)))
    law = torch.zeros((), dtype=torch.float64), torch.tensor(1 / 16, dtype=torch.float64)
    flow = propagate(graph, {}, dict.fromkeys(graph.parameters, law), on_unknown="error")
    found = {n.module: flow.gradients()[n.id] for n in graph.nodes if n.op == "linear"}
    assert found["token"] == pytest.approx(24.0)  # each of 24 columns sends E[g²]E[s²] = 1
    assert found["patches"] == 0.0
