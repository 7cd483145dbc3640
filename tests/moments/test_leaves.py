"""Where signals begin: parameters that keep their numbers, and numbers that learn their axes."""

import pytest
import torch
from torch import nn

from stepzero.moments import kept_moments, propagate
from stepzero.network import capture

TIMES, WIDTH = 24, 32


def sinusoids():
    phase = torch.arange(TIMES)[:, None] / 10000 ** (torch.arange(WIDTH // 2)[None] / (WIDTH // 2))
    return torch.cat([phase.sin(), phase.cos()], dim=1).double()


class Positions(nn.Module):
    """Tokens with positions looked up in a table, normalised as a Transformer reads them."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(TIMES, WIDTH)
        self.register_buffer("ids", torch.arange(TIMES), persistent=False)

    def forward(self, x):
        return nn.functional.layer_norm(x + self.table(self.ids), (WIDTH,))


class Buffer(Positions):
    """The same with a buffer of numbers."""

    def __init__(self):
        super().__init__()
        self.numbers = sinusoids().float()

    def forward(self, x):
        return nn.functional.layer_norm(x + self.numbers, (WIDTH,))


def measured(draws=400):
    x = torch.randn(draws, TIMES, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = nn.functional.layer_norm(x + sinusoids(), (WIDTH,))
    total = y.sum(1).square().mean()
    elsewhere = (total - TIMES * y.square().mean()) / (TIMES * (TIMES - 1))
    return float((y[:, 1:] * y[:, :-1]).mean()), float(elsewhere), float((y[1:] * y[:-1]).mean())


@pytest.mark.parametrize("kind", [Positions, Buffer])
def test_tokens_share_what_their_positions_share(kind):
    net = kind()
    graph = capture(net, (2, TIMES, WIDTH))
    parameters = {name: kept_moments(sinusoids(), graph.uses()[v]) for name, v in graph.parameters.items()}
    y = propagate(graph, {}, parameters, on_unknown="error")
    y = y.signals[graph.outputs[0]]
    near, elsewhere, across = measured()
    assert y.average(y.elsewhere) == pytest.approx(elsewhere, abs=0.02)
    assert y.average(y.across) == pytest.approx(across, abs=0.02)
    if kind is Positions:  # a buffer is taken as locally alike
        assert y.average(y.moments.near) == pytest.approx(near, abs=0.02)


def test_a_table_of_independent_numbers_is_kept_as_averages():
    table = torch.randn(TIMES, WIDTH, generator=torch.Generator().manual_seed(0))
    mean, second = kept_moments(table, [])
    assert mean.numel() == second.numel() == 1
    mean, second = kept_moments(sinusoids(), [])
    assert mean.shape == second.shape == (TIMES, WIDTH)


def test_paces_of_heads_keep_their_numbers_where_they_are_exponentiated():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.rate, self.scale = (nn.Parameter(torch.linspace(0.0, 2.0, 8)) for _ in range(2))

        def forward(self, x):
            return x * self.rate.exp() * self.scale

    graph = capture(Heads(), (2, 8))
    rate, scale = (
        kept_moments(torch.linspace(0.0, 2.0, 8), graph.uses()[graph.parameters[n]]) for n in ("rate", "scale")
    )
    assert torch.equal(rate[0], torch.linspace(0.0, 2.0, 8).double())
    assert torch.equal(rate[1], rate[0].square())
    assert scale[0].numel() == 1  # a factor's average will do
    assert kept_moments(torch.ones(8), graph.uses()[graph.parameters["rate"]])[0].numel() == 1
