"""Laws are read from values where that is safe: real draws pass at a stated rate, what is no draw is kept."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from stepzero.laws import Constant, Dirac, Identity, Kept, Normal, Orthogonal, TruncatedNormal, Uniform
from stepzero.planning import plan
from stepzero.planning._own_values import ALARM, law_of_values

torch.set_num_threads(1)
SHAPES = ((64, 64), (256, 32), (16, 32, 3, 3), (5000,))
DRAWN = (Normal(0.02), Normal(1.0, 3.0), Uniform(-0.1, 0.1), Uniform(0.0, 1.0), TruncatedNormal(0.02))


@pytest.mark.parametrize("law", DRAWN, ids=repr)
def test_real_draws_are_read_at_the_stated_rate(law):
    """A binomial bound: 40 draws of which each is missed with at most ALARM; one false alarm of this test in 10^4."""
    draws = [law.draw(shape, seed=seed) for seed in range(10) for shape in SHAPES]
    read = [law_of_values(draw) for draw in draws]
    missed = sum(type(found) is not type(law) for found in read)
    assert missed <= stats.binom.ppf(1 - 1e-4, len(draws), ALARM)
    for draw, found in zip(draws, read, strict=True):
        if found is not None:
            assert found.std == pytest.approx(law.std, rel=5 / np.sqrt(draw.size))
            assert found.mean == pytest.approx(law.mean, abs=5 * law.std / np.sqrt(draw.size))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("law", [*DRAWN, Orthogonal(1.5)], ids=repr)
def test_real_draws_of_short_formats_are_read_at_the_stated_rate(law, kind):
    """The same bound for 24 draws; bfloat16 has some 2000 numbers for 4096 elements."""
    shapes = [shape for shape in SHAPES if len(shape) > 1]
    draws = [torch.from_numpy(law.draw(shape, seed=seed)).to(kind) for seed in range(8) for shape in shapes]
    read = [law_of_values(draw.float().numpy(), str(kind)) for draw in draws]
    missed = sum(type(found) is not type(law) for found in read)
    assert missed <= stats.binom.ppf(1 - 1e-4, len(draws), ALARM)
    for found in read:
        if isinstance(found, Orthogonal):
            assert found.gain == pytest.approx(law.gain, rel=1e-3)
        elif found is not None:
            assert found.std == pytest.approx(law.std, rel=5 / np.sqrt(4096) + 2.0**-8)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_what_was_not_drawn_is_kept_in_short_formats_too(kind):
    rng = np.random.default_rng(1)
    for name in ("uneven rows", "a low-rank part", "Laplace", "rounded"):
        values = torch.from_numpy(NOT_DRAWN[name](rng, rng.normal(size=(256, 128)))).to(kind).float().numpy()
        assert law_of_values(values, str(kind)) is None, name
    repeated = torch.from_numpy(np.repeat(rng.normal(size=(64, 128)), 2, 0)).to(kind).float().numpy()
    assert law_of_values(repeated, str(kind)) is None


@settings(max_examples=40)
@given(value=st.floats(-1e3, 1e3, width=32), shape=st.sampled_from(((1,), (7,), (3, 4), (64, 64))))
def test_constants_are_exact(value, shape):
    assert law_of_values(np.full(shape, value, np.float32)) == Constant(float(np.float32(value)))


@settings(max_examples=40)
@given(
    gain=st.floats(0.01, 100),
    shape=st.sampled_from(((8, 8), (4, 40), (40, 6), (8, 2, 3, 3))),
    seed=st.integers(0, 2**32),
)
def test_orthogonal_matrices_are_read_with_their_gain(gain, shape, seed):
    found = law_of_values(Orthogonal(gain).draw(shape, seed=seed))
    assert isinstance(found, Orthogonal)
    assert found.gain == pytest.approx(gain, rel=1e-4)


@pytest.mark.parametrize(
    ("law", "shape"), [(Identity(), (5, 5)), (Identity(2.0), (4, 6)), (Dirac(), (6, 6, 3, 3)), (Dirac(2), (6, 3, 3))]
)
def test_patterns_are_exact(law, shape):
    assert law_of_values(law.draw(shape)) == law


def uneven_rows(rng, noise):
    return noise * np.exp(0.15 * rng.normal(size=(len(noise), 1)))


def leaning_rows(rng, noise):
    return noise + 0.3 * rng.normal(size=(len(noise), 1))


def low_rank(rng, noise):
    return noise + 2.5 * np.outer(rng.normal(size=len(noise)), rng.normal(size=noise.shape[1])) / np.sqrt(len(noise))


NOT_DRAWN = {
    "uneven rows": uneven_rows,
    "leaning rows": leaning_rows,
    "a low-rank part": low_rank,
    "heavy tails": lambda rng, noise: rng.standard_t(5, noise.shape),
    "Laplace": lambda rng, noise: rng.laplace(size=noise.shape),
    "two scales": lambda rng, noise: noise * np.where(rng.random(noise.shape) < 0.3, 2.0, 1.0),
    "rounded": lambda rng, noise: np.round(noise, 1),
    "one infinite": lambda rng, noise: np.where(np.arange(noise.size).reshape(noise.shape) == 7, np.inf, noise),
}


@pytest.mark.parametrize("name", NOT_DRAWN)
def test_what_was_not_drawn_so_is_missed_rarely(name):
    """At 4096 elements at most 1 of 20 passes for a draw."""
    rng = np.random.default_rng(1)
    passed = [law_of_values(NOT_DRAWN[name](rng, rng.normal(size=(64, 64)))) is not None for _ in range(20)]
    assert sum(passed) <= 1


def test_few_elements_say_nothing():
    assert law_of_values(np.random.default_rng(0).normal(size=300)) is None


def test_a_fresh_layer_is_read_and_a_trained_one_is_kept():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(96, 96), nn.LayerNorm(96), nn.Linear(96, 96))
    own = plan(net, goal="own")
    assert own["0.weight"].law.high == pytest.approx(96**-0.5, rel=1e-3)
    assert own["1.weight"].law == Constant(1.0)
    assert own["0.bias"].law == Kept()  # 96 elements
    assert any("read from values, not from the constructor" in note for note in own.notes)
    step = torch.optim.Adam(net.parameters(), 1e-2)
    x = torch.randn(256, 96)
    for _ in range(30):
        step.zero_grad()
        (net(x) - x.roll(1, 1)).square().mean().backward()
        step.step()
    trained = plan(net, (4, 96), goal="own")
    assert trained["0.weight"].law == trained["2.weight"].law == trained["1.weight"].law == Kept()
    assert "do not look freshly drawn" in trained["0.weight"].reasons[0]


def test_other_goals_do_not_read_values():
    net = nn.Sequential(nn.Linear(8, 8))
    net.register_parameter("scale", nn.Parameter(torch.ones(3)))
    assert plan(net, (2, 8))["scale"].law == Kept()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64, torch.complex64])
def test_every_format_is_read_or_kept(kind):
    layer = nn.Linear(64, 64, dtype=kind)
    nn.init.ones_(layer.bias)
    own = plan(layer, goal="own")
    assert own["bias"].law == (Kept() if kind.is_complex else Constant(1.0))
    assert isinstance(own["weight"].law, Kept if kind.is_complex else Uniform)
