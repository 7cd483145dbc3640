"""What policies say of one model: targets for ops, laws for parameters, and learning rates that go with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from stepzero.laws import Constant, Law, Normal, Orthogonal, Parts

from ._chooser import Profile, Target
from ._given import Given
from ._scene import ADDS, TRANSPOSED, Scene


@dataclass(frozen=True)
class Voice:
    """A policy as it speaks: its name, its number, and its reason with the source."""

    name: str
    value: float
    reason: str
    source: str

    def why(self, aside: str = "", /, **facts: object) -> str:
        """Return the reason in a sentence with its source."""
        return f"policy {self.name}: {self.reason.format(value=self.value, **facts)}{aside} ({self.source})"

    def target(self, second_moment: float, *, of_input: bool = False, aside: str = "", **facts: object) -> Target:
        """Return a target for a weight op."""
        return Target(second_moment, self.why(aside, **facts), self.name, of_input)

    def law(self, law: Law, **facts: object) -> Given:
        """Return a law for a parameter."""
        why = self.why(**facts)
        return Given(law, self.name, (why,), why)


@dataclass
class Said:
    """Everything that policies decided."""

    targets: dict[int, Target] = field(default_factory=dict)  # by node
    laws: dict[str, Given] = field(default_factory=dict)  # by parameter
    rates: dict[str, float] = field(default_factory=dict)  # learning rate over the model's own, by parameter
    profiles: dict[str, Profile] = field(default_factory=dict)  # of weights whose parts differ in scale

    def __bool__(self) -> bool:
        return bool(self.targets or self.laws or self.rates)

    def add(self, other: Said) -> None:
        """Take over what another policy said."""
        self.targets |= other.targets
        self.laws |= other.laws
        self.profiles |= other.profiles
        self.rates |= {name: rate * self.rates.get(name, 1.0) for name, rate in other.rates.items()}


Speak = Callable[[Voice, Scene], Said]


def residual(second_moment: Callable[[int], float], *, rate: Callable[[int], float] | None = None) -> Speak:
    """Hold the output of each residual branch to a second moment that depends on the depth of its stream."""

    def speak(voice: Voice, scene: Scene) -> Said:
        said, scales = Said(), {join: name for name, join in scene.branch_scales().items()}
        for branch in (b for b in scene.branches if b.ends and not b.norms):
            level, depth = second_moment(branch.depth) / len(branch.ends), branch.depth
            aside = f"; that is before {scales[branch.join]} multiplies it" if branch.join in scales else ""
            for node in branch.ends:
                said.targets[node] = voice.target(level, aside=aside, depth=depth)
                if rate is not None and node in scene.owners:
                    said.rates[scene.owners[node]] = rate(branch.depth)
        return said

    return speak


def zero_last(voice: Voice, scene: Scene) -> Said:
    """Zero what ends each branch: its last weight, or the scale of the norm behind it."""
    said = residual(lambda depth: 0.0)(voice, scene)
    scales = _norm_scales(scene)
    for branch in scene.branches:
        for norm in branch.norms:
            if norm in scales:
                said.laws[scales[norm]] = voice.law(Constant(0.0), depth=branch.depth)
    return said


def fixup(voice: Voice, scene: Scene) -> Said:
    """Zero the last of m layers in each of L branches, and scale the others' weights by L^(-1/(2m - 2))."""
    said = zero_last(voice, scene)
    for branch in (b for b in scene.branches if b.ends and not b.norms):
        m = len(branch.inner) + 1
        for place, node in enumerate(branch.inner, start=1):
            said.targets[node] = voice.target(branch.depth ** (-place / (m - 1)), depth=branch.depth)
    return said


def skip_init(voice: Voice, scene: Scene) -> Said:
    """Zero the learned scalar at the end of each branch."""
    scalars = [n for n in scene.branch_scales() if all(size == 1 for size in scene.shape(n))]
    return Said(laws={name: voice.law(Constant(0.0), depth=len(scene.branches)) for name in scalars})


def layer_scale(voice: Voice, scene: Scene) -> Said:
    """Give per-channel scales of residual branches one small value."""
    vectors = [n for n in scene.branch_scales() if any(size > 1 for size in scene.shape(n))]
    return Said(laws={name: voice.law(Constant(voice.value)) for name in vectors})


def head_level(voice: Voice, scene: Scene) -> Said:
    """Hold the model's outputs to a second moment."""
    return Said({node: voice.target(voice.value) for node in scene.heads()})


def head_law(make: Callable[[float], Law]) -> Speak:
    """Draw the model's last weights from a law, whatever reaches them."""

    def speak(voice: Voice, scene: Scene) -> Said:
        return Said(laws={scene.owners[node]: voice.law(make(voice.value)) for node in scene.heads()})

    return speak


def queries(voice: Voice, scene: Scene) -> Said:
    """Hold queries to a second moment beside keys of 1; where they are packed with keys and values, in their rows alone."""
    said = Said()
    for node, mask in scene.queries().items():
        name, shares = scene.owners[node], mask.double().mean().item()
        if shares < 1:
            axis = 1 if scene.graph.nodes[node].op in TRANSPOSED else 0
            said.profiles[name] = Profile(axis, tuple(_runs(mask.tolist(), voice.value)))
        said.targets[node] = voice.target(shares * voice.value + 1 - shares)
    return said


def _runs(mask: Sequence[bool], factor: float) -> Iterator[tuple[int, int, float]]:
    """Yield stretches of equal rows: start, stop and factor."""
    start = 0
    for chosen, rows in groupby(mask):
        stop = start + len(list(rows))
        yield start, stop, factor if chosen else 1.0
        start = stop


def lookups(voice: Voice, scene: Scene) -> Said:
    """Hand on what a weight reads of learned tables alone with the second moment that they have."""
    return Said({node: voice.target(1.0, of_input=True) for node in scene.lookups()})


def shares(voice: Voice, scene: Scene) -> Said:
    """Hand the shares of a softmax on with the second moment that they have."""
    return Said({node: voice.target(1.0, of_input=True) for node in scene.mixers()})


def embedding(*, tied: bool | None = None) -> Speak:
    """Give embedding tables a scale, zero at the padding index; None speaks of tied ones and others alike.

    A table that is the output layer too gets 1/√width: its logits then have second moment 1 behind a norm.
    """

    def speak(voice: Voice, scene: Scene) -> Said:
        said = Said()
        for name, node, shared in scene.embeddings():
            if tied is None or shared == tied:
                width = scene.shape(name)[-1]
                std = voice.value if tied is None or not shared else width**-0.5
                said.laws[name] = voice.law(_padded(Normal(std), node.arguments.get("padding_idx")), width=width)
        return said

    return speak


def _padded(law: Law, row: object) -> Law:
    """The law of a table, with zeros in the row of the padding index."""
    if not isinstance(row, int) or row < 0:
        return law
    return Parts((((), law), (((row, row + 1),), Constant(0.0))))


def used_in(ops: Iterable[str], make: Callable[[float], Law]) -> Speak:
    """Give a law to parameters that these ops combine with the signal."""

    def speak(voice: Voice, scene: Scene) -> Said:
        return Said(laws={name: voice.law(make(voice.value)) for name in scene.used_by(frozenset(ops))})

    return speak


def tables(voice: Voice, scene: Scene) -> Said:
    """Position tables and class tokens: parameters that are added to the signal, or set beside it."""
    return used_in(ADDS, Normal)(voice, scene)


def gates(voice: Voice, scene: Scene) -> Said:
    """Recurrent layers: each gate's true fan, orthogonal recurrent weights gate by gate, and the forget gate's bias."""
    said = Said()
    for layer in scene.recurrent():
        rows, fan = scene.shape(layer.input)
        sizes = [rows // layer.gates] * layer.gates
        said.laws[layer.input] = voice.law(Normal(fan**-0.5))
        said.laws[layer.hidden] = voice.law(Parts.stacked([Orthogonal(1.0)] * layer.gates, sizes))
        if layer.projection is not None:
            said.laws[layer.projection] = voice.law(Normal(scene.shape(layer.projection)[1] ** -0.5))
        for place, name in enumerate(layer.biases):
            open_gate = layer.gates == 4 and place == 0  # two biases add up: one carries the 1
            forget = (
                Parts.stacked([Constant(float(i == 1) * voice.value) for i in range(4)], sizes) if open_gate else None
            )
            said.laws[name] = voice.law(forget or Constant(0.0))
    return said


def modulations(voice: Voice, scene: Scene) -> Said:
    """Zero the layers whose outputs scale, shift and gate a stream."""
    return Said(laws={scene.owners[node]: voice.law(Constant(0.0)) for node in scene.modulations()})


def mup(voice: Voice, scene: Scene) -> Said:
    """Maximal update parametrisation for Adam, from a base width: output weights 1/width, and learning rates of matrices."""
    said, heads = Said(), set(scene.heads())
    for node, name in scene.owners.items():
        over = scene.width(node) / voice.value
        if node in heads:
            said.targets[node] = voice.target(1.0 / over)
        if not scene.reads_input(node):
            said.rates[name] = 1.0 / over
    return said


def _norm_scales(scene: Scene) -> Mapping[int, str]:
    return {s.node.id: name for name, uses in scene.use.items() for s in uses if s.role == "norm scale"}
