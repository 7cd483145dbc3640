"""What a constructor meant is read as laws, and its real draws follow them."""

import copy
import math
import random
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from stepzero.errors import ModelError
from stepzero.filling import _materialize
from stepzero.laws import Constant, Dirac, Identity, Normal, Orthogonal, Sparse, TruncatedNormal, Uniform
from stepzero.network import build, import_torchvision, recording

SMALL = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "small_models.py"))["SMALL"]


def of(fill, *shape):
    """Return the origin of one parameter that `fill` initialises."""

    def factory():
        module = nn.Module()
        module.w = nn.Parameter(torch.empty(*(shape or (6, 4))))
        made = fill(module.w)
        if isinstance(made, torch.Tensor) and made is not module.w:
            module.w = nn.Parameter(made.detach() if made.requires_grad else made)
        return module

    return recording(build(factory))["w"]


def inplace(fill):
    def run(w):
        with torch.no_grad():
            fill(w)

    return run


def jax_style(w):
    """The erfinv recipe that timm, mmengine and many others carry a copy of."""
    with torch.no_grad():
        low, high = math.erf(-2 / math.sqrt(2)), math.erf(2 / math.sqrt(2))
        w.uniform_(low, high).erfinv_().mul_(0.5 * math.sqrt(2)).add_(0.0).clamp_(min=-1.0, max=1.0)


CUT = 0.8796256610342398  # standard deviation of N(0, 1) between -2 and 2

READ = {
    "normal": (lambda w: nn.init.normal_(w, 1.0, 0.5), Normal(0.5, 1.0)),
    "uniform": (lambda w: nn.init.uniform_(w, -1, 3), Uniform(-1, 3)),
    "kaiming normal": (lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"), Normal(math.sqrt(2 / 4))),
    "xavier uniform": (nn.init.xavier_uniform_, Uniform(-math.sqrt(0.6), math.sqrt(0.6))),
    "truncated normal": (lambda w: nn.init.trunc_normal_(w, std=0.5, a=-1.0, b=1.0), TruncatedNormal(0.5 * CUT)),
    "truncated far out": (lambda w: nn.init.trunc_normal_(w, std=0.02), Normal(0.02)),
    "truncated by erfinv": (jax_style, TruncatedNormal(0.5 * CUT)),
    "orthogonal, wide": (lambda w: nn.init.orthogonal_(w, 1.4), Orthogonal(1.4)),
    "orthogonal, conv": (lambda w: nn.init.orthogonal_(torch.empty(4, 2, 3, 3)), Orthogonal(1.0)),
    "dirac": (lambda w: nn.init.dirac_(torch.empty(4, 2, 3, 3), groups=2), Dirac(2)),
    "eye": (lambda w: nn.init.eye_(w), Identity()),
    "sparse": (lambda w: nn.init.sparse_(w, 0.4), Sparse(0.5, 0.01)),  # ceil(0.4 * 6) = 3 of 6
    "zeros": (nn.init.zeros_, Constant(0.0)),
    "constant": (lambda w: nn.init.constant_(w, 0.3), Constant(0.3)),
    "randn times": (lambda w: torch.randn(3, 4) * 0.02 + 1, Normal(0.02, 1.0)),
    "rand": (lambda w: 2 * torch.rand(3) - 1, Uniform(-1.0, 1.0)),
    "minus": (lambda w: 1 - torch.rand(3) / 2, Uniform(0.5, 1.0)),
    "sum of draws": (lambda w: torch.randn(3) * 3 - torch.randn(3) * 4, Normal(5.0)),
    "divided in place": (inplace(lambda w: w.normal_().div_(4).mul_(-2)), Normal(0.5)),
    "stacked parts": (lambda w: torch.stack([torch.randn(3), torch.randn(3)]), Normal(1.0)),
    "cloned and turned": (lambda w: torch.randn(3, 4).t().contiguous().clone().view(2, 6), Normal(1.0)),
    "written twice": (inplace(lambda w: w.normal_().fill_(2.0)), Constant(2.0)),
    "written by slices": (inplace(lambda w: [w[i].normal_(0, 0.1) for i in range(6)]), Normal(0.1)),
    "copied in": (inplace(lambda w: w.copy_(torch.randn(6, 4))), Normal(1.0)),
    "broadcast constant": (inplace(lambda w: w.copy_(torch.zeros(4))), Constant(0.0)),
    "through data": (lambda w: w.data.uniform_(-1, 1), Uniform(-1, 1)),
}


@pytest.mark.parametrize("name", READ)
def test_laws_are_read(name):
    fill, law = READ[name]
    found = of(fill).law
    assert type(found) is type(law)
    for key, value in law.to_dict().items():
        assert found.to_dict()[key] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)


UNREAD = {
    "exponential": (inplace(lambda w: w.exponential_()), "exponential draws from a distribution that has no law"),
    "clipped": (lambda w: torch.randn(6, 4).clamp(-1, 1), "clamped: a lump of probability"),
    "product": (lambda w: torch.randn(6, 4) * torch.randn(6, 4), "a product of tensors"),
    "repeated": (lambda w: torch.randn(1, 4).expand(6, 4).clone(), "elements of one draw are repeated"),
    "itself twice": (lambda w: (lambda t: t + t)(torch.randn(3)), "a sum of tensors"),
    "its own copy": (lambda w: (lambda t: t + t.clone())(torch.randn(3)), "a sum of tensors"),
    "one draw joined twice": (
        lambda w: (lambda t: torch.cat([t, t.flip(0)]))(torch.randn(3)),
        "one draw stands in several parts",
    ),
    "a row copied": (inplace(lambda w: w.normal_()[0].copy_(w[1])), "one draw stands in several places"),
    "rounded": (lambda w: torch.div(torch.randn(3), 2, rounding_mode="floor"), "a quotient of tensors"),
    "turned mixture": (lambda w: torch.cat([torch.randn(3, 4), torch.zeros(1, 4)]).t(), "t of mixed contents"),
    "QR alone": (lambda w: torch.linalg.qr(torch.randn(4, 4))[0], "factor contents have no law"),
    "NumPy": (lambda w: torch.from_numpy(np.random.randn(3, 3)).float(), "drawn by numpy's own generator"),  # noqa: NPY002
    "Python": (lambda w: torch.tensor([random.random()]), "drawn by random's own generator"),
    "nothing": (lambda w: None, "nothing was ever written to it"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_no_law_is_not_guessed_and_names_its_line(name):
    fill, reason = UNREAD[name]
    origin = of(fill)
    assert origin.law is None
    assert not origin.known
    assert reason in origin.reason
    assert name == "nothing" or f"{Path(__file__).name}:" in origin.reason or "factor" in origin.reason


def test_parts_that_differ_are_boxes():
    origin = of(inplace(lambda w: w.normal_()[2].zero_()))
    base, row = origin.parts
    assert (base.law, row.law) == (Normal(1.0), Constant(0.0))
    assert row.where == (slice(2, 3, 1), slice(0, 4, 1))
    assert origin.law is None
    assert origin.known


def test_numbers_too_many_to_follow_are_boxes_of_numbers(monkeypatch):
    monkeypatch.setattr("stepzero.network._known.LIMIT", 40)

    def fill(w):
        table = torch.zeros(6, 6)
        table[1:, 1:] = torch.arange(5.0)
        return table

    base, inner = of(fill).parts
    assert base.law == Constant(0.0)
    assert inner.where == (slice(1, 6, 1), slice(1, 6, 1))


def test_joined_parts_are_boxes_without_a_base():
    origin = of(lambda w: torch.cat([torch.randn(3, 4), torch.zeros(1, 4)]))
    assert [(part.where[0].start, part.law) for part in origin.parts] == [(0, Normal(1.0)), (3, Constant(0.0))]


def test_numbers_that_follow_from_constants_are_kept():
    assert of(lambda w: torch.linspace(0, 1, 3) ** 2).values.tolist() == [0.0, 0.25, 1.0]


def test_history_tells_every_write_with_its_line():
    history = of(inplace(lambda w: w.normal_().mul_(2.0))).history
    assert [line.split(" at ")[0] for line in history] == ["normal(mean=0, std=1)", "mul(other=2)"]
    assert all(Path(__file__).name in line for line in history)


def test_layers_of_torch_blame_the_line_of_the_model():
    origin = recording(build(lambda: nn.Linear(3, 4)))["weight"]
    assert Path(__file__).name in origin.history[-1]


def test_copies_of_one_draw_are_told_from_draws_of_their_own():
    def factory():
        first = nn.Linear(4, 4)
        return nn.ModuleList([first, copy.deepcopy(first), nn.Linear(4, 4)])

    found = recording(build(factory))
    assert [found[f"{i}.weight"].copy_of for i in range(3)] == ["", "0.weight", ""]
    assert found["1.weight"].law == found["0.weight"].law


def test_ties_are_kept_and_recorded_once():
    def factory():
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return model

    model = build(factory)
    assert model[1].weight is model[0].weight
    assert set(recording(model)) == {"0.weight", "0.bias", "1.bias"}


def test_buffers_and_plain_tensors_get_their_true_values():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)
            self.register_buffer("grid", torch.linspace(0, 1, 3), persistent=False)
            self.rates = [x.item() for x in torch.linspace(0, 0.2, 3)]
            self.index = {"table": [torch.arange(3)]}

    model = build(Net)
    assert model.grid.tolist() == [0.0, 0.5, 1.0]
    assert model.norm.running_var.tolist() == [1.0, 1.0, 1.0]
    assert model.rates == pytest.approx([0.0, 0.1, 0.2])
    assert model.index["table"][0].tolist() == [0, 1, 2]
    assert model.norm.weight.is_meta
    assert recording(model)["grid"].values.tolist() == [0.0, 0.5, 1.0]


def test_parametrisations_record_their_originals():
    def factory():
        return torch.nn.utils.parametrizations.weight_norm(nn.utils.skip_init(nn.Linear, 4, 4))

    found = recording(build(factory))
    assert {"parametrizations.weight.original0", "parametrizations.weight.original1", "bias"} == set(found)


def test_constructors_that_read_random_numbers_are_run_for_real_and_say_so():
    def factory():
        layer = nn.Linear(4, 4)
        layer.scale = nn.Parameter(torch.zeros(3) + (1.0 if layer.weight.max() > -9 else 2.0))
        return layer

    model = build(factory)
    found = recording(model)
    assert found.rung == "real"
    assert any("from activations" in line for line in found.assumed)
    assert found["weight"].law.high == pytest.approx(0.5)
    assert found["scale"].law == Constant(1.0)
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_a_build_leaves_the_global_random_states_and_torch_as_they_were():
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    init = nn.init._no_grad_trunc_normal_
    build(lambda: nn.Linear(random.randint(3, 9), 4))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert init is nn.init._no_grad_trunc_normal_
    assert not torch.empty(1).is_meta


def test_two_builds_record_the_same():
    first, second = (recording(build(lambda: nn.TransformerEncoderLayer(8, 2))) for _ in range(2))
    assert first.to_dict() == second.to_dict()


def test_factories_that_raise_name_the_line():
    def factory():
        raise RuntimeError("no GPU")

    with pytest.raises(ModelError, match=rf"raised RuntimeError at .*{Path(__file__).name}:\d+: no GPU"):
        build(factory)


def test_factories_that_return_no_module_are_refused():
    with pytest.raises(ModelError, match=r"returned a int, not a torch\.nn\.Module"):
        build(lambda: 3)


def test_models_that_were_not_built_so_have_no_recording():
    assert recording(nn.Linear(2, 2)) is None


SAMPLE = [
    name
    for place, name in enumerate(SMALL)
    if place % 4 == 0 and name not in ("torchvision:alexnet", "torchvision:vit_b_16")
]


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("name", SAMPLE)
def test_real_draws_follow_the_recorded_laws(name):
    """Every element tested by Kolmogorov-Smirnov, at a family-wise false-alarm rate of 1 % over all parameters of all models."""
    import_torchvision()
    found = recording(build(SMALL[name][0]))
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    model = SMALL[name][0]()
    for parameter, tensor in model.named_parameters():
        origin = found.get(parameter)
        for part in () if origin is None else origin.parts:
            overwritten = any(other.where for other in origin.parts) and not part.where
            if not overwritten and not part.reason:
                follows(part, tensor.detach()[part.where] if part.where else tensor.detach(), f"{name} {parameter}")


def follows(part, tensor, where):
    if part.values is not None:
        torch.testing.assert_close(tensor, part.values, rtol=0, atol=0, msg=where)
        return
    law, values = part.law, tensor.double().numpy()
    if isinstance(law, Constant):
        assert (values == np.float32(law.value)).all(), where
    elif isinstance(law, (Normal, Uniform, TruncatedNormal)) and law.std > 0:
        flat = values.reshape(-1)[:20_000]
        assert stats.kstest(flat, distribution(law).cdf).pvalue > ALARM, (where, law, flat.mean(), flat.std())
    else:
        expected = law.moments(values.shape)[1]
        assert np.broadcast_to(expected, values.shape).sum() == pytest.approx((values**2).sum(), rel=1e-3), (where, law)


def distribution(law):
    if isinstance(law, Normal):
        return stats.norm(law.mean, law.std)
    if isinstance(law, Uniform):
        return stats.uniform(law.low, law.high - law.low)
    return stats.truncnorm(law.low, law.high, scale=law.parent_std)


ALARM = 0.01 / 10_000  # parameters tested, over all models of the sample, are fewer


def downloads():
    raise OSError("We couldn't connect to 'https://example.invalid' to download the weights")


def leaves_the_program():
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("factory", "advice"),
    [
        (lambda: nn.Linear(3, 4, device="cuda"), "asks for a GPU: make it build on the CPU"),
        (downloads, "It downloads: make it build without pretrained weights"),
        (leaves_the_program, "leaves the program"),
        (nn.Linear, r"Wrap it: build\(lambda"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU a factory may ask for one")
def test_errors_that_many_factories_run_into_come_with_advice(factory, advice):
    with pytest.raises(ModelError, match=advice):
        build(factory)


def test_a_generator_of_its_own_is_told_with_its_line():
    def factory():
        layer = nn.Linear(3, 4)
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(3))
        return layer

    found = recording(build(factory))
    assert found["weight"].law == Normal(1.0)
    (note,) = found.assumed
    assert Path(__file__).name in note
    assert "draws from a generator of its own" in note


def test_numbers_of_a_numpy_generator_are_no_constants():
    origin = of(lambda w: torch.tensor(np.random.default_rng(0).normal(size=(3, 3))).float())
    assert not origin.known
    assert "drawn by numpy's default_rng's own generator" in origin.reason


def test_plain_random_numbers_are_told():
    def factory():
        layer = nn.Linear(3, 4)
        layer.bias.data.fill_(random.random())
        return layer

    (note,) = recording(build(factory)).assumed
    assert "uses random's own generator" in note


def test_parts_written_through_views_are_matrices_of_their_own():
    def fill(w):
        for third in w.data.chunk(3):
            nn.init.orthogonal_(third, 2.0)

    parts = of(fill, 12, 4, 2).parts
    assert [(part.where[0].start, part.law) for part in parts] == [
        (0, Orthogonal(2.0)),
        (4, Orthogonal(2.0)),
        (8, Orthogonal(2.0)),
    ]


LARGE = {
    "alexnet",
    "vit_b_16",
    "vgg11",
    "vgg11_bn",
    "r3d_18",
    "convnext_tiny",
    "volo_d1_224",
    "swin_tiny_patch4_window7_224",
    "swin_v2_t",
}
WRITTEN = [name for name in SMALL if name not in SAMPLE and name.partition(":")[2] not in LARGE][::2]
NO_LAW = ("exp is no op of a law", "norm_except_dim is no op of a law")  # Mamba's time steps, the gains of weight norm


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("name", WRITTEN)
def test_recorded_models_are_written_without_a_hole(name, monkeypatch):
    """Every parameter and buffer, into memory full of NaN; what is not known is listed, never left."""
    import_torchvision()
    original = _materialize.empty_like

    def poisoned(tensor, device):
        made = original(tensor, device)
        return made.fill_(float("nan")) if made.is_floating_point() else made.fill_(-99)

    monkeypatch.setattr(_materialize, "empty_like", poisoned)
    model = build(SMALL[name][0])
    unread = recording(model).unread()
    values = {name: torch.zeros(recording(model)[name].shape, dtype=recording(model)[name].dtype) for name in unread}
    assert all(reason.startswith(NO_LAW) for reason in unread.values()), unread
    _materialize.materialize_(model, {}, values=values)
    for key, tensor in model.state_dict().items():
        assert not (tensor.is_floating_point() and tensor.isnan().any()), key
