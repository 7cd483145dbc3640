"""Residual branches: where a stream is added to, which weights end a branch, and what only looks like one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from stepzero.network import ModelInputs, capture
from stepzero.planning import Scene, plan
from stepzero.planning._slots import slots


class Net(nn.Module):
    """Four square layers, put together by a function of the model and its input."""

    def __init__(self, forward: Callable[[Net, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.c = (nn.Linear(8, 8) for _ in range(4))
        self.norm, self.way = nn.LayerNorm(8), forward
        self.token, self.scale = nn.Parameter(torch.zeros(1, 1, 8)), nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.way(self, x)


def in_parallel(net: Net, x: torch.Tensor) -> torch.Tensor:
    """GPT-J and GPT-NeoX: attention and MLP read the same stream and join it together."""
    x = net.stem(x)
    y = net.norm(x)
    attention = net.c(nn.functional.scaled_dot_product_attention(y, y.flip(1), y))
    return (net.b(torch.relu(net.a(net.norm(x)))) + attention) + x


def side_by_side(net: Net, x: torch.Tensor) -> torch.Tensor:
    """CoaT: two functions of one layer's output meet again; neither begins where the other does."""
    q, k = net.stem(x).chunk(2, dim=-1)
    return torch.cat([q * k + net.a(torch.cat([k, k], -1)).chunk(2, dim=-1)[0]] * 2, -1)


def shortcut(net: Net, x: torch.Tensor) -> torch.Tensor:
    """A projection on the way of the skip."""
    x = net.stem(x)
    return net.a(x) + net.c(torch.relu(net.b(x)))


def positions(net: Net, x: torch.Tensor) -> torch.Tensor:
    """A table that is added to the signal is no skip."""
    return net.a(net.stem(x) + net.token.expand(x.shape))


def token_stream(net: Net, x: torch.Tensor) -> torch.Tensor:
    """CaiT: the class token is a stream of its own, which branches on the patches add to."""
    token = net.token.expand(x.shape[0], 1, 8)
    return token + net.a(torch.cat([token, net.stem(x)], 1)).mean(1, keepdim=True)


def pooled(net: Net, x: torch.Tensor) -> torch.Tensor:
    """PoolFormer: a branch without a weight, scaled by a learned vector."""
    x = net.stem(x)
    y = net.norm(x)
    return x + net.scale * (y.mean(1, keepdim=True).expand(y.shape) - y)


ENDS = [
    (in_parallel, {("b", "c")}),
    (side_by_side, set()),
    (shortcut, {("c",)}),
    (positions, set()),
    (token_stream, {("a",)}),
    (pooled, {()}),
]


@pytest.mark.parametrize(("way", "ends"), ENDS, ids=lambda found: getattr(found, "__name__", ""))
def test_a_branch_begins_where_its_skip_does_and_ends_in_the_last_weights_before_the_join(way, ends):
    net = Net(way)
    graph = capture(net, ModelInputs.of((2, 3, 8), net))
    scene = Scene(graph, slots(graph))
    found = {tuple(sorted(scene.owners[n].partition(".")[0] for n in branch.ends)) for branch in scene.branches}
    assert found == ends


def test_branches_that_join_together_share_what_a_branch_may_add():
    made = plan(Net(in_parallel), (2, 3, 8))
    assert made["b.weight"].second_moment == pytest.approx(0.5)
    assert made["c.weight"].second_moment == pytest.approx(0.5)
    assert "residual:1/sqrt(depth)" in made.why("b.weight")


def test_the_scale_of_a_branch_without_weights_is_one_of_a_branch():
    made = plan(Net(pooled), (2, 3, 8), policies=["layerscale:constant=1e-5"])
    assert made["scale"].law.value == 1e-5


def test_what_a_learned_scale_multiplies_afterwards_is_said():
    made = plan(Net(lambda net, x: x + net.scale * net.a(net.norm(x))), (2, 3, 8))
    assert "; that is before scale multiplies it (" in made.why("a.weight")
