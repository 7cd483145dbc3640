"""The drop-in: torch's names, signatures, values and errors on tensors; layers, activations and seeds beyond them."""

import inspect
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import init as torch_init

import stepzero
from stepzero import init, laws
from stepzero.errors import ActivationError, ApplyError, FanError, LawError, RecipeError, SeedError
from stepzero.theory import fans, gain

NAMES = [name for name in torch_init.__all__ if name.endswith("_")]
ALIASES = [name for name in torch_init.__all__ if not name.endswith("_") and name != "calculate_gain"]
RANDOM = ["uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_",
          "orthogonal_", "sparse_"]  # fmt: skip
MORE = {"constant_": (0.3,), "sparse_": (0.25,)}
SHAPES = {"eye_": (5, 7), "sparse_": (8, 6), "dirac_": (6, 4, 3)}


def shape_for(name):
    return SHAPES.get(name, (6, 4, 3, 3))


def same(ours, theirs):
    torch.manual_seed(3)
    expected = theirs()
    torch.manual_seed(3)
    found = ours()
    assert torch.equal(found, expected)


# -- torch's contract -----------------------------------------------------------


def test_every_public_name_of_torch_is_there():
    assert set(torch_init.__all__) <= set(init.__all__)
    assert all(hasattr(init, name) for name in torch_init.__all__)
    assert init._calculate_fan_in_and_fan_out(torch.empty(3, 4, 5)) == (20, 15)


@pytest.mark.parametrize("name", [*NAMES, "calculate_gain"])
def test_signatures_begin_with_torchs_parameters_and_defaults(name):
    theirs = inspect.signature(getattr(torch_init, name)).parameters
    ours = inspect.signature(getattr(init, name)).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    assert [ours[key].default for key in theirs] == [parameter.default for parameter in theirs.values()]
    assert all(ours[key].kind is inspect.Parameter.KEYWORD_ONLY for key in list(ours)[len(theirs) :])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_values_on_a_tensor_are_torchs_bit_for_bit(name, dtype):
    more, shape = MORE.get(name, ()), shape_for(name)
    same(
        lambda: getattr(init, name)(torch.zeros(shape, dtype=dtype), *more),
        lambda: getattr(torch_init, name)(torch.zeros(shape, dtype=dtype), *more),
    )


@pytest.mark.parametrize("name", RANDOM)
def test_a_generator_gives_torchs_values(name):
    def drawn(module):
        torch.manual_seed(0)  # torch's sparse_ takes its mask from the global state
        generator = torch.Generator().manual_seed(11)
        return getattr(module, name)(torch.zeros(shape_for(name)), *MORE.get(name, ()), generator=generator)

    assert torch.equal(drawn(init), drawn(torch_init))


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "FAN_OUT"])
@pytest.mark.parametrize("nonlinearity", ["linear", "relu", "leaky_relu", "tanh", "sigmoid", "selu", "conv2d"])
def test_kaiming_keeps_torchs_gains_for_the_names_that_torch_knows(mode, nonlinearity):
    for name in ("kaiming_uniform_", "kaiming_normal_"):
        same(
            lambda name=name: getattr(init, name)(torch.empty(6, 5, 3), 0.3, mode, nonlinearity),
            lambda name=name: getattr(torch_init, name)(torch.empty(6, 5, 3), 0.3, mode, nonlinearity),
        )


@pytest.mark.parametrize("param", [None, 0, 0.01, 10])
def test_gains_are_torchs_for_the_names_that_torch_knows(param):
    for name in ("linear", "conv1d", "conv_transpose3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.calculate_gain(name, param) == torch_init.calculate_gain(name, param)


@pytest.mark.parametrize("alias", ALIASES)
def test_a_name_without_underscore_warns_and_then_does_the_same(alias):
    name = f"{alias}_"
    more, shape = MORE.get(name, ()), shape_for(name)

    def ours():
        with pytest.warns(FutureWarning, match=f"`nn.init.{alias}` is now deprecated in favor of `nn.init.{name}`"):
            return getattr(init, alias)(torch.zeros(shape), *more)

    same(ours, lambda: getattr(torch_init, name)(torch.zeros(shape), *more))


@pytest.mark.parametrize("name", NAMES)
def test_the_tensor_itself_comes_back_and_needs_no_gradient_mode(name):
    parameter = nn.Parameter(torch.zeros(shape_for(name)))
    assert getattr(init, name)(parameter, *MORE.get(name, ())) is parameter
    assert parameter.grad_fn is None


@pytest.mark.parametrize(
    "call",
    [
        lambda module: module.xavier_uniform_(torch.empty(3)),
        lambda module: module.xavier_normal_(torch.empty(())),
        lambda module: module.kaiming_uniform_(torch.empty(3)),
        lambda module: module.kaiming_normal_(torch.empty(())),
        lambda module: module.kaiming_normal_(torch.empty(3, 3), mode="fan_middle"),
        lambda module: module.kaiming_normal_(torch.empty(3, 3), True),
        lambda module: module.eye_(torch.empty(3)),
        lambda module: module.dirac_(torch.empty(3, 3)),
        lambda module: module.dirac_(torch.empty(3, 3, 3), 2),
        lambda module: module.orthogonal_(torch.empty(3)),
        lambda module: module.sparse_(torch.empty(3), 0.1),
        lambda module: module.calculate_gain("leaky_relu", True),
        lambda module: module.calculate_gain("leaky_relu", [1]),
        lambda module: module.calculate_gain("leaky_relu", {"a": "b"}),
        lambda module: module.calculate_gain("qwert"),
        lambda module: module.xavier_uniform_(torch.empty(0, 0)),
        lambda module: module.normal_(torch.empty(3), 0.0, -1.0),
        lambda module: module.uniform_(torch.empty(3), 1.0, 0.0),
        lambda module: module.normal_(torch.empty(3, dtype=torch.int64)),
        lambda module: module.normal_([1.0]),
    ],
)
def test_what_torch_refuses_is_refused_with_the_same_kind_of_error(call):
    with pytest.raises(Exception) as theirs:  # noqa: PT011  whatever torch raises
        call(torch_init)
    with pytest.raises(theirs.type):
        call(init)


@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_"])
def test_an_empty_tensor_warns_as_in_torch(name):
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
        getattr(init, name)(torch.empty(0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("kaiming")])
def test_a_tensor_without_elements_is_treated_as_in_torch(name, dtype):
    shape = (0, *shape_for(name)[1:])
    for module in (torch_init, init):
        tensor = torch.empty(shape, dtype=dtype)
        assert getattr(module, name)(tensor, *MORE.get(name, ())) is tensor


@pytest.mark.parametrize("name", NAMES)
def test_a_meta_tensor_comes_back_as_torch_promises_but_not_in_silence(name):
    tensor = torch.empty(shape_for(name), device="meta")
    with pytest.warns(UserWarning, match="a meta tensor has no memory: nothing was initialised"):
        assert getattr(init, name)(tensor, *MORE.get(name, ())) is tensor


# -- beyond it: layers ----------------------------------------------------------

LAYERS = [
    nn.Linear(64, 256),
    nn.Conv2d(64, 64, 3, groups=64),
    nn.Conv2d(3, 64, 16, stride=16),
    nn.ConvTranspose2d(128, 3, 4, 2, 1),
    nn.ConvTranspose2d(64, 64, 4, 2, 1, groups=4),
    nn.Bilinear(8, 16, 32),
    nn.LSTM(48, 64),
    nn.MultiheadAttention(64, 4),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
def test_the_true_fan_of_a_layer_counts(layer, mode):
    """Second moments against 2/fan; |z| > 5 happens in 5.7e-7 of the right draws, and the seed is fixed."""
    torch.manual_seed(0)
    assert init.kaiming_normal_(layer, mode=mode) is layer
    for name in stepzero.theory.layer_weights(layer):
        weight = layer.get_parameter(name).detach()
        expected = 2 / fans(layer, weight=name).of(mode)
        assert abs(weight.square().mean().item() / expected - 1) < 5 * math.sqrt(2 / weight.numel())


def test_every_gate_of_a_recurrent_layer_is_orthogonal():
    layer = init.orthogonal_(nn.LSTM(16, 32))
    for gate in layer.weight_hh_l0.detach().chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(32), atol=1e-5, rtol=0)


def test_a_layer_brings_the_groups_of_a_dirac():
    layer = init.dirac_(nn.Conv1d(6, 6, 3, padding=1, groups=3, bias=False))
    x = torch.randn(2, 6, 9)
    torch.testing.assert_close(layer(x), x)


def test_constants_reach_a_layer_without_a_fan():
    assert init.constant_(nn.LayerNorm(5), 0.5).weight.tolist() == [0.5] * 5
    assert init.zeros_(nn.Linear(2, 2)).weight.abs().sum() == 0
    torch.testing.assert_close(init.eye_(nn.Linear(2, 3)).weight.detach(), torch.eye(3, 2))


@pytest.mark.parametrize("seed", [None, 0])
def test_the_padding_row_of_an_embedding_stays_zero(seed):
    layer = init.normal_(nn.Embedding(10, 4, padding_idx=2), seed=seed)
    assert (layer.weight[2] == 0).all()
    assert (layer.weight[3] != 0).all()


def weight_normed(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


WRAPPED = [
    nn.utils.parametrizations.weight_norm,
    weight_normed,
    lambda layer: weight_normed(layer.double()),
]


@pytest.mark.parametrize("wrap", WRAPPED)
def test_weight_norm_is_written_through(wrap):
    layer = init.kaiming_normal_(wrap(nn.Conv2d(8, 16, 3)), seed=1, name="conv")
    expected = laws.kaiming_normal((16, 8, 3, 3), seed=1, name="conv.weight")
    layer(torch.zeros(1, 8, 5, 5, dtype=layer.weight.dtype))  # the old kind computes its weight anew in each forward
    np.testing.assert_allclose(layer.weight.detach().numpy(), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("wrap", WRAPPED[:2])
def test_writing_to_a_computed_weight_is_refused(wrap):
    layer = wrap(nn.Linear(3, 4))
    with pytest.raises(ApplyError, match=r"computed from other parameters.*Give the layer itself"):
        init.normal_(layer.weight)


def test_a_part_of_a_parameter_may_be_written():
    parameter = nn.Parameter(torch.zeros(6, 4))
    init.ones_(parameter[:3])
    init.kaiming_uniform_(parameter.T[:, 3:])
    assert (parameter[:3] == 1).all()
    assert (parameter[3:] != 0).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: init.normal_(nn.Linear(3, 3, device="meta")),
            ApplyError,
            r"Linear\.weight is on meta and has no memory",
        ),
        (lambda: init.normal_(nn.LazyLinear(3)), ApplyError, "LazyLinear does not know the shape of its weight"),
        (lambda: init.normal_(nn.ReLU()), ApplyError, "ReLU has no weight"),
        (lambda: init.kaiming_normal_(nn.LayerNorm(3)), FanError, "LayerNorm is no layer with a known layout"),
        (
            lambda: init.kaiming_normal_(nn.Linear(3, 3), mode="fan_middle"),
            RecipeError,
            "Choose one of fan_in, fan_out",
        ),
        (lambda: init.eye_(nn.Conv1d(3, 3, 3)), LawError, "For a convolution use Dirac"),
        (lambda: init.kaiming_normal_(torch.empty(3, 3), nonlinearity="gelo"), ActivationError, "Did you mean gelu"),
        (lambda: init.normal_(torch.empty(3), seed=-1), SeedError, "seed=-1"),
        (lambda: init.normal_(torch.empty(3), generator=torch.Generator(), seed=1), SeedError, "Give one of them"),
        (lambda: init.normal_(torch.empty(3, dtype=torch.int64), seed=1), ApplyError, "int64 holds no drawn values"),
        (lambda: init.normal_(torch.empty(3, device="meta"), seed=1), ApplyError, "a meta tensor has no memory"),
        (lambda: init.kaiming_normal_(torch.empty(3), seed=1), FanError, "at least 2 axes"),
    ],
)
def test_what_cannot_be_done_is_an_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_refused_layer_keeps_every_value():
    layer = nn.LSTM(4, 8, proj_size=3)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    with pytest.raises(LawError):
        init.sparse_(layer, 2.0)
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))


# -- beyond it: activations, formats, seeds ----------------------------------------


@pytest.mark.parametrize("nonlinearity", ["gelu", "SiLU", nn.Mish(), nn.PReLU(), np.tanh, torch.nn.functional.softplus])
def test_any_activation_may_follow(nonlinearity):
    torch.manual_seed(0)
    weight = init.kaiming_normal_(torch.empty(300, 400), nonlinearity=nonlinearity)
    assert abs(weight.square().mean().item() * 400 / gain(nonlinearity) ** 2 - 1) < 5 * math.sqrt(2 / weight.numel())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_orthogonal_works_in_short_formats(dtype):
    weight = init.orthogonal_(torch.empty(8, 8, dtype=dtype)).float()
    torch.testing.assert_close(weight @ weight.T, torch.eye(8), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "name", ["kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal", "normal", "orthogonal"]
)
def test_a_seed_draws_the_values_of_the_numpy_functions(name):
    weight = getattr(init, f"{name}_")(torch.empty(6, 4, 3), seed=7, name="conv1.weight")
    np.testing.assert_array_equal(weight.numpy(), getattr(stepzero, name)((6, 4, 3), seed=7, name="conv1.weight"))


def test_a_seed_gives_the_same_values_in_every_layout_and_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    plain = init.normal_(torch.empty(4, 6, 5, 5), seed=1, name="w")
    other = init.normal_(torch.empty(4, 6, 5, 5).to(memory_format=torch.channels_last), seed=1, name="w")
    short = init.normal_(torch.empty(4, 6, 5, 5, dtype=torch.bfloat16), seed=1, name="w")
    assert torch.equal(plain, other)
    assert torch.equal(plain.bfloat16(), short)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0.0, 1.0, -2.0, 2.0), (1.0, 0.5, 0.0, 2.0), (0.0, 0.02, -2.0, 2.0), (0.0, 1.0, 0.5, 3.0)],
)
def test_a_truncated_normal_by_seed_has_the_moments_of_torchs(mean, std, a, b):
    """Mean and variance of 250 000 draws each; five standard errors of the difference."""
    torch.manual_seed(0)
    theirs = torch_init.trunc_normal_(torch.empty(500, 500, dtype=torch.float64), mean, std, a, b)
    ours = init.trunc_normal_(torch.empty(500, 500, dtype=torch.float64), mean, std, a, b, seed=0)
    assert a <= ours.min().item() <= ours.max().item() <= b
    for power in (1, 2):
        x, y = ours**power, theirs**power
        assert abs(x.mean() - y.mean()) < 5 * math.sqrt((x.var() + y.var()) / x.numel())
