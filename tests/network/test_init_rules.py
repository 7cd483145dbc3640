"""What init code draws, writes and computes is read as laws; what is no law is not guessed."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stepzero.laws import (
    Constant,
    Dirac,
    Identity,
    Mapped,
    Normal,
    Norms,
    Orthogonal,
    Sparse,
    Sphere,
    TruncatedNormal,
    Uniform,
)

from .records import inplace, of


def jax_style(w):
    """The erfinv recipe that timm, mmengine and many others carry a copy of."""
    with torch.no_grad():
        low, high = math.erf(-2 / math.sqrt(2)), math.erf(2 / math.sqrt(2))
        w.uniform_(low, high).erfinv_().mul_(0.5 * math.sqrt(2)).add_(0.0).clamp_(min=-1.0, max=1.0)


def time_steps(w):
    """The inverse softplus of log-uniform steps (Gu & Dao 2023)."""
    dt = torch.exp(torch.rand(8) * (math.log(0.1) - math.log(0.001)) + math.log(0.001)).clamp(min=1e-4)
    return dt + torch.log(-torch.expm1(-dt))


TIME_STEPS = Mapped(Uniform(math.log(0.001), math.log(0.1)), (("exp",), ("clamp", 1e-4, None), ("softplus_inverse",)))
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
    "exponential": (inplace(lambda w: w.exponential_(2.0)), Mapped(Uniform(0.0, 1.0), (("log",), ("mul", -0.5)))),
    "log-normal": (inplace(lambda w: w.log_normal_(1.0, 0.5)), Mapped(Normal(0.5, 1.0), (("exp",),))),
    "clipped": (inplace(lambda w: w.normal_().clamp_(-1, 1)), Mapped(Normal(1.0), (("clamp", -1.0, 1.0),))),
    "clipped below": (lambda w: torch.rand(3).clamp_min(0.5), Mapped(Uniform(0.0, 1.0), (("clamp", 0.5, None),))),
    "Mamba's time steps": (time_steps, TIME_STEPS),
    "RecurrentGemma's decay": (
        lambda w: torch.empty(8).uniform_(0.81, 0.99).log_().mul_(0.5).neg_().exp_().sub_(1.0).log_(),
        Mapped(Uniform(0.81, 0.99), (("log",), ("mul", -0.5), ("exp",), ("add", -1.0), ("log",))),
    ),
    "rates": (lambda w: torch.log(torch.empty(4).uniform_(1, 16)), Mapped(Uniform(1.0, 16.0), (("log",),))),
    "square": (lambda w: torch.rand(4) ** 2, Mapped(Uniform(0.0, 1.0), (("square",),))),
    "inverse": (lambda w: 3 / (torch.rand(4) + 1), Mapped(Uniform(1.0, 2.0), (("reciprocal",), ("mul", 3.0)))),
    "truncated around a half": (
        lambda w: nn.init.trunc_normal_(w, mean=0.5, std=1.0, a=-1.5, b=2.5),
        Mapped(TruncatedNormal(CUT), (("add", 0.5),)),
    ),
    "real parts of a complex normal": (
        lambda w: torch.view_as_real(torch.randn(3, dtype=torch.complex64)),
        Normal(math.sqrt(0.5)),
    ),
    "complex normal": (lambda w: torch.randn(3, dtype=torch.complex64) * 2, Normal(2.0)),
    "complex uniform": (
        lambda w: torch.empty(3, dtype=torch.complex64).uniform_(-1, 1),
        Uniform(-math.sqrt(2), math.sqrt(2)),
    ),
    "unit vector": (lambda w: nn.functional.normalize(torch.randn(7), dim=0), Sphere()),
    "unit rows": (lambda w: (lambda x: x / x.norm(dim=1, keepdim=True) * 3)(torch.randn(5, 5)), Sphere(3.0, 1)),
    "lengths": (lambda w: torch.randn(5, 7).norm(dim=1), Norms("w", Normal(1.0), (5, 7), 0)),
    "set to another": (inplace(lambda w: w.set_(torch.rand(6, 4))), Uniform(0.0, 1.0)),
}


@pytest.mark.parametrize("name", READ)
def test_laws_are_read(name):
    fill, law = READ[name]
    found = of(fill).law
    assert type(found) is type(law)
    assert_alike(found.to_dict(), law.to_dict())


def assert_alike(found, expected):
    """Compare plain data, numbers to six digits."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_alike(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other)
    else:
        assert found == (pytest.approx(expected, rel=1e-6) if isinstance(expected, float) else expected)


UNREAD = {
    "Cauchy": (inplace(lambda w: w.cauchy_()), "cauchy draws from a distribution that has no law"),
    "out of range": (lambda w: torch.randn(6, 4).log(), "not finite everywhere"),
    "cube": (lambda w: torch.randn(6, 4) ** 3, "a power of 3.0"),
    "log of a matrix": (lambda w: nn.init.orthogonal_(w).data.exp(), "exp of orthogonal contents"),
    "complex function": (lambda w: torch.randn(3, dtype=torch.complex64).exp(), "exp of complex numbers"),
    "made complex": (lambda w: torch.randn(3).to(torch.complex64), "draws cast to complex64"),
    "divided by the lengths of others": (
        lambda w: (lambda x: x / x.norm(dim=1))(torch.randn(5, 5)),
        "whose directions are not all alike",
    ),
    "directions of a uniform": (
        lambda w: nn.functional.normalize(torch.rand(5, 5), dim=1),
        "whose directions are not all alike",
    ),
    "lengths along one of three axes": (lambda w: torch.randn(2, 3, 4).norm(dim=2), "have no law"),
    "another inverse": (
        lambda w: (lambda x: x + torch.log(torch.expm1(-x).abs()))(torch.rand(3) + 1),
        "a sum of tensors",
    ),
    "clamped between tensors": (lambda w: torch.randn(3).clamp(torch.arange(3.0) - 5, None), "bounds that differ"),
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
