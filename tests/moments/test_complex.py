"""Complex numbers: rotary embeddings as products, parts and moduli."""

import pytest
import torch
from torch import nn

from stepzero.moments import propagate
from stepzero.network import capture

CORRELATED = (0.0, 1.3, 0.5, 0.5, 0.4, 0.2)


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *xs):
        return self.function(*xs)


def rotated(x):
    """Queries in pairs, times e^(i·position·frequency)."""
    places, pairs = x.shape[1], x.shape[-1] // 2
    turns = torch.outer(torch.arange(places), 0.3 ** torch.arange(pairs))
    z = torch.view_as_complex(x.reshape(*x.shape[:-1], pairs, 2))
    return torch.view_as_real(z * torch.polar(torch.ones_like(turns), turns)).flatten(2)


def test_a_rotation_by_complex_numbers_keeps_the_scale(hold):
    loose = {"near": 0.2, "elsewhere": 0.02, "apart": 0.02}  # neighbours are taken to turn alike
    hold(Of(rotated), (3, 6, 16), moments=CORRELATED, channel_last=True, loose=loose, loose_change=loose)


@pytest.mark.parametrize("function", [
    lambda z: z.real, lambda z: z.imag, lambda z: torch.view_as_real(z + 2 * z.conj().resolve_conj().imag), lambda z: torch.complex(z.real, z.imag).abs(),
])  # fmt: skip
def test_parts_of_complex_numbers(function):
    hold_second(lambda x: function(torch.view_as_complex(x)), (4, 30, 20, 2))


def test_what_depends_on_itself_is_measured():
    def squared(x):
        z = torch.view_as_complex(x)
        return (z * z).real

    flow = hold_second(squared, (4, 30, 20, 2))
    assert len(flow.probed) == 1


def hold_second(function, shape):
    graph = capture(Of(function), shape)
    flow = propagate(graph, {}, {})
    assert not flow.passed
    torch.manual_seed(0)
    y = function(torch.randn(shape).double())
    assert flow.second(graph.outputs[0]) == pytest.approx(float(y.square().mean()), rel=0.1)
    return flow


def test_complex_inputs_have_a_second_moment():
    graph = capture(
        Of(lambda x, z: (torch.view_as_complex(x) * z).real),
        (torch.zeros(4, 3, 2), torch.ones(3, dtype=torch.complex64)),
    )
    turns = torch.polar(torch.full((3,), 2.0), torch.rand(3))
    for given, expected in (({}, 1.0), ({list(graph.inputs)[1]: turns}, 4.0)):
        flow = propagate(graph, given, {}, on_unknown="error")
        assert flow.second(graph.outputs[0]) == pytest.approx(expected)
