"""Rules for noise: dropout keeps the mean and what two places share; fresh noise is a source of its own."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _roles as R
from stepzero.moments._call import Call, Rule
from stepzero.moments._signal import Moments, Signal
from stepzero.network import Ref

SELU_FLOOR = -1.7580993408473766  # -scale·alpha of SELU: what alpha dropout puts in place of a dropped value


def dropout(call: Call) -> Signal:
    """E[x²]/(1-p) in training; pairs keep theirs, since masks are independent (Srivastava et al. 2014)."""
    x = call.operand(call.main)
    p = float(call.argument("p"))
    if not (call.argument("train") and p):
        return x
    keep = 1.0 - p
    m, tangent = x.mapped(lambda m: m._replace(second=m.second / keep))
    return Signal(x.shape, x.roles, m, tangent)


def feature_dropout(call: Call) -> Signal:
    """Dropout of whole channels: other places of the same input share the mask (Tompson et al. 2015)."""
    x = call.operand(call.main)
    p = float(call.argument("p"))
    if not (call.argument("train") and p):
        return x
    keep = 1.0 - p
    kept = ("second", "near", "elsewhere")
    m, tangent = x.mapped(lambda m: m._replace(**{name: getattr(m, name) / keep for name in kept}))
    return Signal(x.shape, x.roles, m, tangent)


def alpha_dropout(call: Call) -> Signal:
    """a·(d·x + (1-d)·floor) + b, made to keep mean 0 and variance 1 (Klambauer et al. 2017, §3)."""
    x = call.operand(call.main)
    p = float(call.argument("p"))
    if not (call.argument("train") and p):
        return x
    keep, whole = 1.0 - p, call.op == "feature_alpha_dropout"
    a = 1.0 / sqrt((1.0 + p * SELU_FLOOR**2) * keep)
    floor, shift = a * SELU_FLOOR, -a * SELU_FLOOR * p
    m = x.moments
    mean = a * keep * m.mean + p * floor

    def alike(t: Tensor) -> Tensor:  # one mask for both
        constant: Tensor = p * floor**2 + 2 * shift * mean + shift**2
        return a * a * keep * t + constant

    def separate(t: Tensor) -> Tensor:  # a mask for each
        dropped: Tensor = 2 * keep * p * a * floor * m.mean + p * p * floor**2
        return (a * keep) ** 2 * t + dropped + 2 * shift * mean + shift**2

    beside = alike if whole else separate
    moments = Moments(
        mean + shift, alike(m.second), beside(m.near), beside(m.elsewhere), separate(m.across), separate(m.apart)
    )
    return Signal(x.shape, x.roles, moments, _masked_change(x, a, keep, whole))


def _masked_change(x: Signal, a: float, keep: float, whole: bool) -> Moments | None:
    """The tangent under the mask of alpha dropout."""
    if x.tangent is None:
        return None
    c, same, other = x.tangent, a * a * keep, (a * keep) ** 2
    beside = same if whole else other
    return Moments(c.mean, c.second * same, c.near * beside, c.elsewhere * beside, c.across * other, c.apart * other)


def fresh(mean_and_second: Callable[[Call], tuple[float, float]]) -> Rule:
    """Make the rule of an op that draws independent elements of known mean and second moment."""

    def rule(call: Call) -> Signal:
        mean, second = mean_and_second(call)
        one = (1,) * len(call.shape)
        m, q = (torch.full(one, v, dtype=torch.float64) for v in (mean, second))
        roles = R.guess(call.shape)
        across = q if R.count(roles, "batch") == 1 else m**2
        return Signal(call.shape, roles, Moments(m, q, m**2, m**2, across, m**2))

    return rule


def _coin(call: Call) -> tuple[float, float]:
    """A mask of probability p: a number, or the average of a known or predicted tensor of probabilities."""
    p = call.argument("p")
    if isinstance(p, (int, float)):
        return float(p), float(p)
    x = call.operand("p" if "p" in call.node.arguments and p is not None else call.main)
    average = x.average(x.mean)
    return average, average


def _normal(call: Call) -> tuple[float, float]:
    """N(mean, std²); randn has neither argument."""
    mean, std = (call.argument(k) for k in ("mean", "std"))
    if isinstance(mean, Ref) or isinstance(std, Ref):
        raise NoRuleError(f"{call.op} (at {call.where}) draws around a tensor: no closed moments")
    m = float(mean) if isinstance(mean, (int, float)) else 0.0
    s = float(std) if isinstance(std, (int, float)) else 1.0
    return m, m * m + s * s


def _uniform(call: Call) -> tuple[float, float]:
    """U(from, to); rand has neither argument."""
    low, high = call.argument("from"), call.argument("to")
    a, b = (0.0 if low is None else float(low)), (1.0 if high is None else float(high))
    return (a + b) / 2, (a * a + a * b + b * b) / 3


def _exponential(call: Call) -> tuple[float, float]:
    """Exponential with rate lambd."""
    rate = float(call.argument("lambd", 1.0))
    return 1.0 / rate, 2.0 / rate**2


NOISE: dict[str, Rule] = {
    "dropout": dropout,
    "feature_dropout": feature_dropout,
    **dict.fromkeys(("alpha_dropout", "feature_alpha_dropout"), alpha_dropout),
}
SOURCES: dict[str, Rule] = {
    "bernoulli": fresh(_coin),
    **dict.fromkeys(("normal", "randn", "randn_like"), fresh(_normal)),
    **dict.fromkeys(("rand", "rand_like", "uniform"), fresh(_uniform)),
    "exponential": fresh(_exponential),
}
