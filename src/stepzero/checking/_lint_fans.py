"""Rules about fans: a scale that was right for another fan than the weight has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import log, sqrt

from torch.nn.utils.parametrize import ParametrizationList

from stepzero.checking._holding import Holding
from stepzero.checking._rule import Spot, off, times
from stepzero.checking._stock import Stock
from stepzero.checking._uses import Use, torch_fans
from stepzero.theory import Fans

ROUND = (0.001, 0.002, 0.003, 0.005, 0.006, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)  # scales that nobody computed

SHARP = 0.03  # relative error of a standard deviation that can tell formulas apart


@dataclass(frozen=True, slots=True)
class Formula:
    """std = sqrt(scale / fan), as people call it in torch."""

    name: str
    scale: float
    mode: str

    def std(self, fan_in: float, fan_out: float) -> float:
        """Return the standard deviation for these fans."""
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        return sqrt(self.scale / fan)


FORMULAS = (
    Formula("torch's default (kaiming_uniform_, a=√5)", 1 / 3, "fan_in"),
    Formula("kaiming fan_in with the gain of ReLU", 2.0, "fan_in"),
    Formula("kaiming fan_out with the gain of ReLU", 2.0, "fan_out"),
    Formula("kaiming fan_in with gain 1", 1.0, "fan_in"),
    Formula("kaiming fan_out with gain 1", 1.0, "fan_out"),
    Formula("xavier", 1.0, "fan_avg"),
    Formula("xavier with the gain of ReLU", 2.0, "fan_avg"),
)


def grouped(stock: Stock) -> Iterator[Spot]:
    """torch.nn.init counts the outputs of all groups as fan_out, where an input reaches those of its own group alone."""
    for held, use, formula in _misread(stock, _own_group, lambda use: use.groups > 1 and not use.transposed):
        yield _spot(held, use, formula, f"fan_out of all {use.groups} groups", f"{use.fans.fan_out:.4g}", use.seen[1])


def transposed(stock: Stock) -> Iterator[Spot]:
    """A transposed convolution stores [in, out/groups, …], and of its k² taps a stride leaves k²/s² for each output."""
    for held, use, formula in _misread(stock, _as_it_is, lambda use: use.transposed):
        yield _spot(
            held, use, formula, "in and out swapped, the stride left out", f"{use.fans.fan_in:.4g}", use.seen[0]
        )


def packed(stock: Stock) -> Iterator[Spot]:
    """q, k and v, or the gates of a cell, are matrices of their own: the rows of all together are no fan_out."""
    for held, use, formula in _misread(stock, _as_it_is, lambda use: use.parts > 1):
        said = f"the rows of all {use.parts} packed matrices as one fan_out"
        yield _spot(held, use, formula, said, f"{use.fans.fan_out:.4g}", use.seen[1])


def input_first(stock: Stock) -> Iterator[Spot]:
    """A weight stored [in, out] (GPT-2's Conv1D, x @ W) is read as [out, in]."""
    for held, use, formula in _misread(stock, _as_it_is, lambda use: use.input_first):
        yield _spot(held, use, formula, "the axes swapped", f"{use.fans.fan_in:.4g}", use.seen[0])


def stacked(stock: Stock) -> Iterator[Spot]:
    """Experts stacked in one tensor [experts, in, out] are read as a convolution's weight."""
    for held in stock.holdings.values():
        if len(held.shape) != 3 or held.name in stock.uses or _of_known_layer(held):
            continue
        seen = torch_fans(held.shape)
        true = Fans(float(held.shape[1]), float(held.shape[2]))
        formula = _formula(held, seen, true)
        if formula is not None and held.shape[0] > 1:
            use = Use(held.name, "stack of matrices", true, seen)
            yield _spot(held, use, formula, "the stack's axes as kernel and fan", f"{true.fan_in:.4g}", seen[0])


def checkerboard(stock: Stock) -> Iterator[Spot]:
    """Where the stride does not divide the kernel, outputs differ in how many taps reach them: no std is right for all."""
    for use in stock.uses.values():
        spread = use.fans.forward_spread
        if use.transposed and spread > 1 + 1e-9:
            layer = use.layer
            size = f"kernel {_sizes(layer, 'kernel_size')}, stride {_sizes(layer, 'stride')}"
            message = f"{size}: the variance differs by a factor of {spread:.3g} between neighbouring outputs."
            fix = "Take a kernel that the stride divides, or upsample and convolve."
            yield Spot("note", use.name, message, {"spread": spread}, fix)


def bilinear(stock: Stock) -> Iterator[Spot]:
    """torch draws U(±1/sqrt(in1)) although in1 · in2 products reach an output: its variance is in2/3."""
    for held, use in stock.weights():
        if use.kind == "Bilinear":
            ratio = sqrt(held.second * use.fans.fan_in)
            if ratio > 2:
                message = f"std {held.std:.3g} looks at one of its two inputs only: outputs of variance {ratio**2:.3g} for inputs of variance 1."
                yield Spot(off(ratio, use.normalised), held.name, message, {"gain": ratio}, _draw(use.fans.fan_in))


def _as_it_is(use: Use) -> Use:
    return use


def _own_group(use: Use) -> Use:
    """Return the use with fan_out counted within its group; a stride, which torch leaves out too, is another matter."""
    return replace(use, fans=Fans(use.seen[0], use.seen[1] / use.groups))


def _misread(
    stock: Stock, true: Callable[[Use], Use], of_kind: Callable[[Use], bool]
) -> Iterable[tuple[Holding, Use, Formula]]:
    """Yield the weights of one kind whose scale a formula explains with torch's fans, and none with the true ones.

    One formula must explain at least half of them, and two where so few values tell the scale: a scale can meet some formula by
    chance.
    """
    mine = [(held, true(use)) for held, use in stock.weights() if of_kind(use)]
    found = [(h, u, _formula(h, u.seen, u.fans, swapped=u.input_first)) for h, u in mine]
    named = [(h, u, f) for h, u, f in found if f is not None]
    common = Counter(f.name for _, _, f in named).most_common(1)
    if not common or 2 * common[0][1] < len(mine):
        return []
    agreed = [(h, u, f) for h, u, f in named if f.name == common[0][0]]
    return agreed if len(agreed) > 1 or agreed[0][0].tolerance < SHARP else []


def _formula(held: Holding, seen: tuple[float, float], true: Fans, *, swapped: bool = False) -> Formula | None:
    """Return the formula that gives this scale with the fans seen and another one with the true fans.

    A round number that is nearer than the formula wins: nobody computed it. Where the axes are swapped, fan_in as seen is the
    true fan_out: then only what fan_in would be tells.
    """
    honest = [f for f in FORMULAS if not (swapped and f.mode == "fan_out")]
    if any(held.has_std(f.std(*true)) for f in honest):
        return None
    found = next((f for f in honest if held.has_std(f.std(*seen))), None)
    if found is None or min(abs(log(held.std / r)) for r in ROUND) <= abs(log(held.std / found.std(*seen))):
        return None
    return found


def _of_known_layer(held: Holding) -> bool:
    return any(
        hasattr(module, "kernel_size") or hasattr(module, "in_features") or isinstance(module, ParametrizationList)
        for module, _ in held.slot.places
    )


def _spot(held: Holding, use: Use, formula: Formula, misread: str, true: str, seen: float) -> Spot:
    ratio = formula.std(*use.seen) / formula.std(*use.fans)
    message = (
        f"std {held.std:.3g} is {formula.name} with {misread} ({seen:.4g} instead of {true}): {times(ratio)}."
        f"{' The normalisation behind it hides that in training.' if use.normalised else ''}"
    )
    evidence = {
        "std": held.std,
        "ratio": ratio,
        "fan_in": use.fans.fan_in,
        "fan_out": use.fans.fan_out,
        "seen_fan_in": use.seen[0],
        "seen_fan_out": use.seen[1],
        "formula": formula.name,
    }
    return Spot(
        off(ratio, use.normalised), held.name, message, evidence, _draw(formula.scale / formula.std(*use.fans) ** 2)
    )


def _draw(fan: float) -> str:
    return (
        f"Draw it for a fan of {fan:.4g}: the functions of stepzero.init take the layer itself and count its true fans."
    )


def _sizes(layer: object, attribute: str) -> str:
    return "×".join(map(str, getattr(layer, attribute)))
