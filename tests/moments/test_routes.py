"""Elements written, added or merged at places that numbers name."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.moments import Moments, propagate
from stepzero.network import capture

WHITE = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
ALIKE = (0.4, 1.4, 0.6, 0.6, 0.5, 0.4)


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *xs):
        return self.function(*xs)


def second(function, *shapes):
    graph = capture(Of(function), tuple(torch.zeros(shape) for shape in shapes))
    flow = propagate(graph, {}, {}, on_unknown="error")
    torch.manual_seed(1)
    with torch.no_grad():
        found = torch.stack([function(*map(torch.randn, shapes)).square().mean() for _ in range(40)])
    return flow.second(graph.outputs[0]), float(found.mean())


def test_image_tokens_among_words():
    mask = (torch.arange(10) < 4)[None, :, None]
    predicted, found = second(lambda x, y: x.masked_scatter(mask.expand(2, 10, 8), 3 * y), (2, 10, 8), (8, 8))
    assert predicted == pytest.approx(0.6 + 0.4 * 9)
    assert predicted == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("function", [
    lambda x, y: x.scatter(1, y.topk(2, 1).indices, 2.0), lambda x, y: x.scatter(1, y.topk(3, 1).indices, 3 * y),
    lambda x, y: x.scatter(1, torch.tensor([[1, 2]] * 40), 3 * y),
    lambda x, y: x.index_add(0, y[:, 0].argsort()[:20], y[20:]), lambda x, y: x.scatter_add(1, y.topk(3, 1).indices, 3 * y),
])  # fmt: skip
def test_places_that_depend_on_data(function):
    predicted, found = second(function, (40, 8), (40, 8))
    assert predicted == pytest.approx(found, rel=0.12)  # what is written first is not what comes first


def fold(x):
    return F.fold(x, (6, 6), 3, padding=1)


def test_windows_that_overlap_add_up(hold):
    loose = dict.fromkeys(("near", "elsewhere", "apart"), 0.02)  # windows at the border meet others less often
    hold(Of(fold), (3, 36, 36), moments=ALIKE, loose=loose, loose_change=loose)


def test_windows_of_one_map_add_up_to_its_places_many_times():
    predicted, found = second(lambda x: fold(F.unfold(x, 3, padding=1)), (8, 4, 6, 6))
    assert predicted < found  # what is folded is one place nine times; it is taken for nine
    graph = capture(Of(lambda x: fold(F.unfold(x, 3, padding=1))), (2, 4, 6, 6))
    moments = Moments(*(torch.full((1, 1, 1, 1), v, dtype=torch.float64) for v in (0.0, *(1.0,) * 5)))
    flow = propagate(graph, dict.fromkeys(graph.inputs, moments), {}, on_unknown="error")
    assert flow.second(graph.outputs[0]) == pytest.approx(
        float(fold(F.unfold(torch.ones(1, 4, 6, 6), 3, padding=1)).square().mean())
    )


def test_an_outer_product(hold):
    hold(Of(torch.outer), (12,), (9,), moments=WHITE)


def test_values_put_where_numbers_say():
    known = torch.arange(0, 40, 4)
    predicted, found = second(lambda x, y: x.index_put((known,), 3 * y[:10]), (40, 8), (40, 8))
    assert predicted == pytest.approx(0.75 + 0.25 * 9)
    assert predicted == pytest.approx(found, rel=0.1)
    predicted, found = second(lambda x, y: x.index_put((y[:, 0].argsort()[:10],), 3 * y[:10]), (40, 8), (40, 8))
    assert predicted == pytest.approx(found, rel=0.1)
