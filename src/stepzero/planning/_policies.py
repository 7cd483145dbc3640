"""What a residual branch is scaled to, as values with their sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from stepzero.errors import PlanError


@dataclass(frozen=True, slots=True)
class ResidualPolicy:
    """The second moment that a branch adds to a stream of second moment 1."""

    name: str
    second_moment: Callable[[int], float]  # of the branch's output, for a stream of this many branches
    reason: str  # with {depth}
    source: str


RESIDUAL: Mapping[str, ResidualPolicy] = MappingProxyType(
    {
        "1/sqrt(depth)": ResidualPolicy(
            "1/sqrt(depth)",
            lambda depth: 1.0 / depth,
            "ends one of {depth} residual branches of its stream: second moment 1/{depth}, so that the stream grows from 1 to 2 at any depth",
            "Radford et al. 2019, §2.3 (1/√N); De & Smith 2020, §3; Hanin & Rolnick 2018 (summable branch scales)",
        ),
        "unit": ResidualPolicy(
            "unit",
            lambda depth: 1.0,
            "ends one of {depth} residual branches of its stream: second moment 1, so that the stream grows by 1 a branch",
            "He et al. 2016 (identity mappings), as drawn",
        ),
        "zero-last": ResidualPolicy(
            "zero-last",
            lambda depth: 0.0,
            "ends one of {depth} residual branches: zero, so that the block starts as the identity",
            "Goyal et al. 2017, §5.1; Zhang et al. 2019 (Fixup); De & Smith 2020 (SkipInit)",
        ),
    }
)


def residual_policy(name: str) -> ResidualPolicy:
    """Return a policy by its name.

    Raises:
        PlanError: if there is none of that name.
    """
    if name not in RESIDUAL:
        raise PlanError(f"residual={name!r} is not a residual policy. Choose one of {', '.join(RESIDUAL)}.")
    return RESIDUAL[name]
