"""Products of two signals beyond attention: the state of linear attention, and what a normaliser beside the values makes."""

import torch.nn.functional as F
from torch import nn

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
