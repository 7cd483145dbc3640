"""What people expect of heads, branches, embeddings, gates and widths, as values with their sources."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from stepzero.errors import PlanError
from stepzero.laws import Constant, Normal

from . import _said as says
from ._said import Said, Speak, Voice
from ._scene import Scene


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule for one kind of parameter, beside the goal.

    Args:
        name: "kind:choice"; a plan follows one policy of each kind.
        speak: Looks at a captured model and says targets, laws and learning rates.
        reason: One clause; may quote {value}, {depth} or {width}.
        source: Where it comes from.
        value: Its number; "kind:choice=number" sets another.
        last: Whether it speaks only of parameters that nothing else is known of: on meta, without a recording of their draw.

    Raises:
        PlanError: if the name is not of that form, or the value is negative or infinite.
    """

    name: str
    speak: Speak
    reason: str
    source: str
    value: float = 0.0
    last: bool = False

    def __post_init__(self) -> None:
        if not all(self.name.partition(":")):
            raise PlanError(f"policy {self.name!r} is not named kind:choice, such as head:zero.")
        if not (math.isfinite(self.value) and self.value >= 0):
            raise PlanError(f"policy {self.name!r}: value={self.value!r} is not a number ≥ 0.")

    @property
    def kind(self) -> str:
        """What it is about."""
        return self.name.partition(":")[0]

    def about(self, scene: Scene) -> Said:
        """Return what it says of a model."""
        return self.speak(Voice(self.name, self.value, self.reason, self.source), scene)


P = Policy
POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        policy.name: policy
        for policy in (
            P("residual:1/sqrt(depth)", says.residual(lambda depth: 1 / depth),
              "ends one of {depth} residual branches of its stream: second moment 1/{depth}, so that all together add 1 to the stream at any depth",
              "Radford et al. 2019, §2.3 (1/√N); De & Smith 2020, §3; Hanin & Rolnick 2018 (summable branch scales)"),
            P("residual:1/sqrt(2L)", says.residual(lambda depth: 1 / depth),
              "ends one of the 2L = {depth} branches of L transformer layers: std over √(2L)",
              "Radford et al. 2019, §2.3; Shoeybi et al. 2019, §5"),
            P("residual:unit", says.residual(lambda depth: 1.0),
              "ends one of {depth} residual branches of its stream: second moment 1, so that the stream grows by 1 a branch",
              "He et al. 2016 (identity mappings), as drawn"),
            P("residual:zero-last", says.zero_last,
              "ends one of {depth} residual branches: zero, so that the block starts as the identity",
              "Goyal et al. 2017, §5.1; Zhang et al. 2019 (Fixup); De & Smith 2020 (SkipInit)"),
            P("residual:fixup", says.fixup,
              "one of {depth} residual branches: its last layer zero, the std of its other m - 1 layers times {depth}^(-1/(2m - 2))",
              "Zhang, Dauphin & Ma 2019 (Fixup), §3"),
            P("residual:skipinit", says.skip_init,
              "scales a residual branch: zero, so that the block starts as the identity",
              "De & Smith 2020 (SkipInit), §4"),
            P("residual:completep", says.residual(lambda depth: 1 / depth**2, rate=lambda depth: 1 / depth),
              "ends one of {depth} residual branches: std over {depth} (its multiplier 1/{depth}, drawn into the weight), Adam's learning rate over {depth} too",
              "Dey et al. 2025 (CompleteP), α = 1"),
            P("layerscale:constant", says.layer_scale,
              "scales the channels of a residual branch: {value:g}, so that the block starts near the identity",
              "Touvron et al. 2021 (CaiT), §2", 1e-4),
            P("queries:level", says.queries,
              "queries of second moment {value:g} beside keys of 1: logits q·k/√d of that variance where they are independent, and of none at 0",
              "Vaswani et al. 2017, §3.2.1; Yang et al. 2021 (µP), app. D.2, for queries that start at zero", 1.0),
            P("shares:kept", says.shares,
              "mixes the shares of a softmax between heads: they keep their second moment",
              "Shazeer et al. 2020 (talking heads); Touvron et al. 2021 (CaiT)"),
            P("lookup:kept", says.lookups,
              "reads a learned table alone, whatever the input: the table's own scale passes as it is",
              "He et al. 2021 (DeBERTa), §3.1, whose position tables start at 0.02", 0.0),
            P("head:calibrated", says.head_level,
              "logits of second moment {value:g}: the cross entropy at start exceeds ln(classes) by at most half of that (Jensen)",
              "E ln Σ exp(z) ≤ ln(classes) + E[z²]/2 for Gaussian z", 0.08),
            P("head:small", says.head_law(Normal),
              "std {value:g}, so that the logits start small", "Simonyan & Zisserman 2015, §3.1", 0.01),
            P("head:zero", says.head_law(Constant),
              "zero, so that the loss starts at ln(classes)", "Zhang et al. 2019 (Fixup), §3; Bachlechner et al. 2021"),
            P("embedding:tied", says.embedding(tied=True),
              "the table is the output layer too: std 1/√{width} gives its logits second moment 1",
              "Press & Wolf 2017 (tying); Vaswani et al. 2017, §3.4 (the table times √width)"),
            P("embedding:normal", says.embedding(),
              "every token starts as N(0, {value:g}²), the padding token as zero", "torch.nn.Embedding; Devlin et al. 2019 for 0.02", 1.0),
            P("embedding:last", says.embedding(tied=False),
              "nothing else is known of this table: N(0, {value:g}²), the padding token zero", "torch.nn.Embedding", 1.0, last=True),
            P("table:normal", says.tables,
              "a position table or class token: N(0, {value:g}²), small beside a signal of 1", "Devlin et al. 2019; Dosovitskiy et al. 2021", 0.02),
            P("table:last", says.tables,
              "nothing else is known of this table or token: N(0, {value:g}²), small beside a signal of 1",
              "Devlin et al. 2019; Dosovitskiy et al. 2021", 0.02, last=True),
            P("scale:last", says.used_in(("mul", "div"), Constant),
              "nothing else is known of this scale: {value:g}, so that the signal passes as it is", "as the scale of a norm", 1.0, last=True),
            P("slope:last", says.used_in(("prelu",), Constant),
              "nothing else is known of this slope: {value:g}", "He et al. 2015, §2.1 (PReLU)", 0.25, last=True),
            P("gates:forget", says.gates,
              "each gate by itself: std 1/√inputs, orthogonal recurrent weights, forget bias {value:g}, other biases zero",
              "Gers et al. 2000; Jozefowicz et al. 2015, §3; Saxe et al. 2014 (orthogonal)", 1.0),
            P("adaln:zero", says.modulations,
              "its outputs shift, scale and gate a stream: zero, so that each block starts as the identity",
              "Peebles & Xie 2023 (DiT), adaLN-Zero"),
            P("width:mup", says.mup,
              "in width over {value:g}: output std falls as 1/width, Adam's learning rate of matrices too",
              "Yang et al. 2021 (µP), table 8", 256.0),
        )
    }
)  # fmt: skip

# What a plan follows without being asked, beside the residual policy.
DEFAULTS = (
    "shares:kept", "lookup:kept", "embedding:tied", "gates:forget", "embedding:last", "table:last", "scale:last", "slope:last",
)  # fmt: skip
RESIDUAL = tuple(name.partition(":")[2] for name in POLICIES if name.startswith("residual:"))


def read_policies(asked: Iterable[str | Policy] | None, residual: str) -> tuple[list[Policy], list[Policy]]:
    """Return the policies that the user asked for, and the default ones of all other kinds.

    Raises:
        PlanError: if a name is not known, or two are of one kind.
    """
    if residual not in RESIDUAL:
        raise PlanError(f"residual={residual!r} is not a residual policy. Choose one of {', '.join(RESIDUAL)}.")
    chosen: dict[str, Policy] = {}
    for item in [asked] if isinstance(asked, (str, Policy)) else asked or ():
        policy = item if isinstance(item, Policy) else _named(item)
        if policy.kind in chosen:
            raise PlanError(
                f"policies {chosen[policy.kind].name} and {policy.name} are both about {policy.kind}. Choose one."
            )
        chosen[policy.kind] = policy
    default = (POLICIES[name] for name in (f"residual:{residual}", *DEFAULTS))
    return list(chosen.values()), [policy for policy in default if policy.kind not in chosen]


def speak(asked: Iterable[Policy], default: Iterable[Policy], scene: Scene) -> tuple[Said, Said]:
    """Return what policies say of a model, and what they would say last, of parameters that nothing is known of.

    Raises:
        PlanError: if a policy that the user asked for finds nothing to speak about.
    """
    first, last = Said(), Said()
    for policy in default:
        (last if policy.last else first).add(policy.about(scene))
    for policy in asked:
        said = policy.about(scene)
        if not said:
            raise PlanError(
                f"policy {policy.name!r} finds nothing in this model to speak about. Leave it out, or see POLICIES."
            )
        first.add(said)
    return first, last


def _named(text: str) -> Policy:
    name, equals, number = str(text).partition("=")
    if name not in POLICIES:
        raise PlanError(f"policy {text!r} is not known. Choose from {', '.join(POLICIES)}.")
    if not equals:
        return POLICIES[name]
    try:
        value = float(number)
    except ValueError:
        raise PlanError(f"policy {text!r}: {number!r} is not a number.") from None
    return replace(POLICIES[name], value=value)
