"""Draws into temporaries are found; draws that a later one replaces, or that a parameter keeps, are not."""

import pytest
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from stepzero.network import build, recording


def drawn_into_a_temporary(wrap):
    layer = wrap(nn.Linear(8, 4))
    nn.init.kaiming_normal_(layer.weight)
    return layer


def drawn_before(wrap):
    layer = nn.Linear(8, 4)
    nn.init.kaiming_normal_(layer.weight)
    return wrap(layer)


@pytest.mark.parametrize("wrap", [weight_norm, parametrizations.weight_norm, parametrizations.spectral_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_an_init_of_a_computed_weight_is_lost_and_its_line_is_named(wrap):
    (lost,) = recording(build(lambda: drawn_into_a_temporary(wrap))).lost
    assert lost.startswith("normal at ")
    assert "test_lost.py" in lost
    assert recording(build(lambda: drawn_before(wrap))).lost == ()


@pytest.mark.parametrize(
    "factory",
    [
        lambda: nn.Transformer(16, 2, 2, 2),  # xavier over every default
        lambda: nn.Embedding(8, 4, padding_idx=1),  # a row of zeros in a draw
        lambda: nn.LSTM(8, 4),
    ],
)
def test_what_replaces_a_default_is_not_lost(factory):
    assert recording(build(factory)).lost == ()
