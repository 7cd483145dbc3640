"""Data movement: views, permutations, cuts, shuffles, padding, joins side by side, writes through views."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.moments import Moments, Signal, _moves, _pointwise, propagate
from stepzero.moments import _roles as R
from stepzero.moments._moves import Representative
from stepzero.network import capture


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *xs):
        return self.function(*xs)


def write(x):
    y = x * 2
    y[:, :, 0] = 0
    return y


MOVES = {
    "flatten positions": lambda x: x.flatten(2),
    "flatten all": lambda x: x.flatten(1),
    "tokens": lambda x: x.flatten(2).transpose(1, 2),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "heads": lambda x: x.reshape(3, 2, 4, 4, 6),
    "windows": lambda x: x.reshape(3, 8, 2, 2, 2, 3).permute(0, 2, 4, 1, 3, 5),
    "slice": lambda x: x[:, 2:, ::2],
    "select": lambda x: x[:, :, 1],
    "chunk": lambda x: x.chunk(2, 1)[1],
    "split": lambda x: x.split([3, 5], 1)[0],
    "unbind": lambda x: x.unbind(2)[1],
    "roll": lambda x: x.roll((1, 2), (2, 3)),
    "flip": lambda x: x.flip(3),
    "squeeze": lambda x: x[:, :, None].squeeze(2),
    "movedim": lambda x: x.movedim(1, -1),
    "space to channels": lambda x: F.pixel_unshuffle(x, 2),
    "channels to space": lambda x: F.pixel_shuffle(x, 2),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "cat channels": lambda x: torch.cat([x, x.tanh()], 1),
    "stack": lambda x: torch.stack([x, x], 1),
    "copy": lambda x: x.contiguous().clone().to(torch.float64),
}
# Cutting, folding and rolling bring places side by side that were not, which matters to none of these fields.


@pytest.mark.parametrize("name", MOVES)
def test_moves_keep_what_is_known_of_each_element(hold, name):
    hold(Of(MOVES[name]), (3, 8, 4, 6), draws=60)


PADS = {
    "zeros": lambda x: F.pad(x, (1, 1, 2, 0)),
    "a constant": lambda x: F.pad(x, (1, 1, 1, 1), value=0.7),
    "circular": lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
    "reflect": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
}
COPIES = {"near": 0.05, "elsewhere": 0.03, "apart": 0.03}  # a place and its copy count as two places


@pytest.mark.parametrize("name", PADS)
def test_padding(hold, name):
    loose = COPIES if name in ("circular", "reflect") else {}
    # between a border of zeros and the map pairs vanish: those are averaged as own places
    border = {"near": 0.3, "elsewhere": 0.3, "apart": 0.3, "across": 0.02} if name in ("zeros", "a constant") else {}
    hold(Of(PADS[name]), (3, 8, 7, 7), draws=80, loose={**loose, **border}, loose_change={**loose, **border})


def test_repeated_axes_are_alike(hold):
    hold(Of(lambda x: x.mean((2, 3), keepdim=True).expand(3, 8, 4, 6)), (3, 8, 4, 6), draws=80)


def test_a_class_token_stands_for_every_input(hold):
    class Token(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 32))

        def forward(self, x):
            return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)[:, :1]

    hold(Token(), (3, 9, 32), draws=150, channel_last=True)


def test_tiling_and_writes_through_views_keep_second_moments():
    for function, second in ((lambda x: x.repeat(1, 1, 2, 1), 1.0), (write, 4.0 * 3 / 4)):
        graph = capture(Of(function), (3, 8, 4, 6))
        flow = propagate(graph, {}, {}, on_unknown="error")
        assert flow.second(graph.outputs[0]) == pytest.approx(second)


def test_one_representative_stands_for_many_gradients():
    x = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    y = Representative.apply(x, 0)
    (g,) = torch.autograd.grad((y * torch.tensor([[1.0, 2.0, 3.0]])).sum(), x)
    assert torch.equal(g, torch.tensor([[0.25, 0.5, 0.75]] * 4, dtype=torch.float64))


def test_roles_survive_merging_and_splitting():
    roles = R.guess((2, 6, 4, 4))
    assert R.reshape(roles, (2, 6, 16)) == (((2, "batch"),), ((6, "channel"),), ((4, "position"), (4, "position")))
    assert R.reshape(R.reshape(roles, (2, 96)), (2, 6, 4, 4)) == roles
    split = R.reshape(roles, (2, 3, 2, 4, 4))
    assert [R.of(a) for a in split[1:3]] == [{"channel"}, {"channel"}]
    assert R.count(split, "channel") == 6


def test_moments_of_one_tensor_are_moved_once():
    one = torch.ones(())
    seen = []
    Moments(*(one,) * 6).each(lambda t: seen.append(t) or t)
    assert len(seen) == 1
    assert Signal((2, 3), R.guess((2, 3)), Moments(*(one,) * 6)).average(one) == 1.0


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        (lambda t: t.reshape(1, 6, 4, 2), (1, 6, 1, 1)),
        (lambda t: t.transpose(1, 2), (1, 1, 6)),
        (lambda t: t[:, 1:4], (1, 3, 1)),
        (lambda t: t.unbind(2)[3], (1, 6)),
        (lambda t: F.pad(t, (0, 0, 2, 1)), (1, 9, 1)),
        (lambda t: t.roll((1, 2), (1, 2)), (1, 6, 1)),
        (lambda t: t.flip(1), (1, 6, 1)),
        (lambda t: t.repeat(2, 3, 4), (1, 18, 1)),
        (lambda t: t.tile(2, 1, 2, 1), (1, 1, 12, 1)),
        (lambda t: t.repeat_interleave(2, 1), (1, 12, 1)),
        (lambda t: t.repeat_interleave(2, -1), (1, 6, 1)),
    ],
)
def test_axes_on_which_nothing_changes_are_not_written_out(op, shape):
    graph = capture(Of(op), torch.randn(1, 6, 8))
    second = torch.arange(1.0, 7.0, dtype=torch.float64).reshape(1, 6, 1)
    nothing = torch.zeros(1, 1, 1, dtype=torch.float64)
    (name,) = graph.inputs
    found = propagate(graph, {name: Moments(nothing, second, *(nothing,) * 4)}, {}).signals[graph.outputs[0]].second
    right = op(second.expand(1, 6, 8))
    torch.testing.assert_close(found.expand(right.shape), right)
    assert found.shape == shape


def test_a_function_before_a_huge_flattening_is_evaluated_where_its_map_is_small(monkeypatch):
    spied = []
    graph = capture(Of(lambda x: torch.tanh(F.pad(x, (0, 0, 1, 1))).flatten()), (1, 8, 20, 16))
    whole = graph.outputs[0]
    evaluate = _pointwise.evaluate

    def spy(root, phi):
        spied.append(max(t.numel() for t in root.moments))
        return evaluate(root, phi)

    monkeypatch.setattr(_pointwise, "evaluate", spy)
    monkeypatch.setattr(_moves, "HUGE", 1000)
    huge = propagate(graph, None, {}).signals[whole]
    assert huge.moments.second.numel() == 8 * 22 * 16
    monkeypatch.setattr(_moves, "HUGE", 10000)
    usual = propagate(graph, None, {}).signals[whole]
    assert torch.allclose(huge.moments.second, usual.moments.second, rtol=1e-9)
    assert spied == [22, 8 * 22 * 16]


def test_memory_that_is_written_piece_by_piece_holds_the_pieces():
    class Pieces(nn.Module):
        def forward(self, x):
            y = x.new_empty(2, 6, 8)
            y[..., :4], y[..., 4:] = x, 2 * x
            return y

    graph = capture(Pieces(), (2, 6, 4))
    y = propagate(graph, {}, {}, on_unknown="error").signals[graph.outputs[0]]
    assert y.second.expand(2, 6, 8)[0, 0].tolist() == [1.0] * 4 + [4.0] * 4
