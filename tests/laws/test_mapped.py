"""Functions of draws: moments by quadrature, and what is refused."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from stepzero.errors import LawError
from stepzero.laws import STEPS, Constant, Mapped, Normal, Orthogonal, TruncatedNormal, Uniform

CLOSED = {  # mean and variance known in closed form
    "exponential": (Mapped(Uniform(0.0, 1.0), (("log",), ("mul", -0.5))), 0.5, 0.25),
    "log-normal": (Mapped(Normal(0.5, 0.2), (("exp",),)), math.exp(0.325), (math.exp(0.25) - 1) * math.exp(0.65)),
    "log-uniform": (
        Mapped(Uniform(math.log(0.01), math.log(0.1)), (("exp",),)),
        0.09 / math.log(10),
        (0.1**2 - 0.01**2) / (2 * math.log(10)) - (0.09 / math.log(10)) ** 2,
    ),
    "half-normal": (Mapped(Normal(2.0), (("abs",),)), 2 * math.sqrt(2 / math.pi), 4 * (1 - 2 / math.pi)),
    "square of a uniform": (Mapped(Uniform(-1.0, 1.0), (("square",),)), 1 / 3, 1 / 5 - 1 / 9),
    "shifted truncated normal": (Mapped(TruncatedNormal(0.3), (("add", 1.0),)), 1.0, 0.09),
    "clipped at zero": (Mapped(Normal(1.0), (("clamp", 0.0, None),)), (2 * math.pi) ** -0.5, 0.5 - 1 / (2 * math.pi)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_moments_are_those_in_closed_form(name):
    law, mean, variance = CLOSED[name]
    assert law.mean == pytest.approx(mean, rel=1e-5)
    assert law.variance == pytest.approx(variance, rel=1e-5)


RANGES = {"log": (0.1, 0.9), "sqrt": (0.1, 0.9), "reciprocal": (0.1, 0.9), "logit": (0.1, 0.9), "log1p": (-0.5, 0.5),
          "softplus_inverse": (0.1, 2.0)}  # fmt: skip
CONSTANTS = {"add": (0.3,), "mul": (-2.0,), "clamp": (-0.2, 0.3)}
EXACT = {
    "add": lambda x: x + 0.3, "mul": lambda x: -2 * x, "clamp": lambda x: np.clip(x, -0.2, 0.3), "reciprocal": np.reciprocal,
    "sigmoid": stats.logistic.cdf, "logit": stats.logistic.ppf, "softplus": lambda x: np.logaddexp(x, 0),
    "softplus_inverse": lambda x: np.log(np.expm1(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_every_step_is_the_function_that_it_is_named_after(name):
    low, high = RANGES.get(name, (-1.0, 1.0))
    law, exact = Mapped(Uniform(low, high), ((name, *CONSTANTS.get(name, ())),)), EXACT.get(name) or getattr(np, name)
    x = np.linspace(low, high, 1001)
    np.testing.assert_allclose(law.of(x), exact(x), rtol=1e-14, atol=1e-15)
    for power, found in ((1, law.mean), (2, law.variance + law.mean**2)):
        expected = integrate.quad(lambda t, power=power: exact(t) ** power, low, high, points=[-0.2, 0.3])[0] / (
            high - low
        )
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_neighbouring_sums_and_products_become_one():
    law = Mapped(Normal(1.0), (("exp",), ("mul", 2.0))).then(("mul", 3.0), ("add", 1.0), ("add", -3.0))
    assert law.steps == (("exp",), ("mul", 6.0), ("add", -2.0))
    assert repr(law) == "Mapped(Normal(std=1), exp → mul(6) → add(-2))"


@pytest.mark.parametrize(
    ("law", "steps", "message"),
    [
        (Orthogonal(), (("exp",),), "not drawn element by element. Give one of Uniform"),
        (Normal(1.0), (), "no steps"),
        (Normal(1.0), (("sin",),), r"step \('sin',\) is unknown. Choose one of add"),
        (Normal(1.0), (("mul",),), "mul takes 1 constants"),
        (Normal(1.0), (("mul", math.inf),), "no finite number"),
        (Normal(1.0), (("clamp", 1.0, -1.0),), "clamp takes a lower bound"),
        (Normal(1.0), (("clamp", None, None),), "clamp takes a lower bound"),
        (Normal(1.0), (("log",),), "not finite everywhere"),
        (Uniform(-1.0, 2.0), (("reciprocal",),), "not finite everywhere"),
        (Normal(1000.0), (("exp",),), "not finite everywhere"),
        (Constant(1.0), (("exp",),), "not drawn element by element"),
    ],
)
def test_what_cannot_be_computed_is_refused_when_the_law_is_made(law, steps, message):
    with pytest.raises(LawError, match=message):
        Mapped(law, steps)
