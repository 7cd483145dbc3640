"""What a parameter is for decides its law where no signal does: every use counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stepzero.laws import Constant, Kept, Normal
from stepzero.planning import plan


class Latents(nn.Module):
    """A learned array that a norm reads; beside it, the stream may begin with the array itself (Perceiver)."""

    def __init__(self, *, stream: bool) -> None:
        super().__init__()
        self.latents, self.norm, self.mix = nn.Parameter(torch.ones(1, 4, 16)), nn.LayerNorm(16), nn.Linear(16, 16)
        self.stream = stream

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mix(self.norm(self.latents) + x)
        return self.latents + y if self.stream else y


def test_what_only_a_norm_reads_has_no_scale_of_its_own():
    made = plan(Latents(stream=False), (2, 4, 16))
    assert isinstance(made["latents"].law, Normal)
    assert "divided out by layer_norm" in made.why("latents")


def test_what_the_stream_begins_with_keeps_its_scale_though_a_norm_reads_it_too():
    made = plan(Latents(stream=True), (2, 4, 16))
    assert made["latents"].law == Kept()


@pytest.mark.parametrize(("name", "law"), [("norm.weight", Constant(1.0)), ("norm.bias", Constant(0.0)), ("mix.bias", Constant(0.0))])  # fmt: skip
def test_norms_start_pure_and_biases_at_zero(name, law):
    assert plan(Latents(stream=True), (2, 4, 16))[name].law == law
