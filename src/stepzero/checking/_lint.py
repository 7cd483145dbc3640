"""lint(): what an init gets wrong, rule by rule, without a weight in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from torch import nn

from stepzero.checking import _lint_fans as fans
from stepzero.checking import _lint_layers as layers
from stepzero.checking import _lint_signal as signal
from stepzero.checking import _lint_values as values
from stepzero.checking._findings import Finding, Findings
from stepzero.checking._rule import Lint
from stepzero.checking._stock import Stock, take_stock
from stepzero.errors import CheckError
from stepzero.network import unmoved

LINTS: Mapping[str, Lint] = MappingProxyType(
    {
        # values
        "unwritten": Lint(values.unwritten, "memory that nothing ever wrote", "transformers#46002, lightning#17616"),
        "not-finite": Lint(values.not_finite, "NaN or infinity", "transformers#46002"),
        "lost-init": Lint(values.lost, "an init drawn into a temporary", "pytorch#180968, hifi-gan#145"),
        "copies": Lint(values.copies, "equal random values that are not tied", "pytorch#86274, #72253"),
        "equal-blocks": Lint(values.equal_rows, "every shard drew the same rows", "pytorch#138329"),
        "truncation": Lint(values.truncation, "bounds that cut nothing, or shrink", "timm#1283, pytorch#155588"),
        "underflow": Lint(values.underflow, "a scale below the type's numbers", "Micikevicius et al. 2018, §3.2"),
        "complex-uniform": Lint(values.complex_uniform, "twice the second moment", "Trabelsi et al. 2018, §3.6"),
        # fans
        "grouped-fan": Lint(fans.grouped, "fan_out of all groups", "pytorch#23854, timm#84"),
        "transposed-fan": Lint(fans.transposed, "in and out swapped, stride left out", "tensorflow#31192"),
        "packed-fan": Lint(fans.packed, "q/k/v or gates counted as one matrix", "pytorch#166378, apex#910"),
        "stacked-fan": Lint(fans.stacked, "experts counted as a kernel", "keras PR#22789"),
        "input-first": Lint(fans.input_first, "a weight [in, out] read as [out, in]", "transformers Conv1D"),
        "bilinear-fan": Lint(fans.bilinear, "one input of two counted", "torch.nn.Bilinear"),
        "checkerboard": Lint(fans.checkerboard, "a stride that does not divide the kernel", "Odena et al. 2016"),
        # layers
        "default-init": Lint(layers.default_init, "a=√5 behind a rectifier", "He et al. 2015, §2.2; pytorch#15314"),
        "wrong-gain": Lint(layers.wrong_gain, "the gain of another activation", "pytorch#24991"),
        "random-bias": Lint(layers.random_bias, "biases that hide a vanishing signal", "Schoenholz et al. 2017"),
        "padding-row": Lint(layers.padding_row, "a padding row that is not zero", "pytorch#6495"),
        "tied-embedding": Lint(layers.tied_embedding, "N(0, 1) as a head", "Press & Wolf 2017; Vaswani et al. 2017, §3.4"),
        "forget-bias": Lint(layers.forget_bias, "a forget gate at 1/2", "Gers et al. 2000; Jozefowicz et al. 2015"),
        "recurrent-scale": Lint(layers.recurrent_scale, "gates that saturate, or see nothing", "pytorch#750"),
        "packed-orthogonal": Lint(layers.packed_orthogonal, "orthogonal as a whole only", "Saxe et al. 2014"),
        "modulation": Lint(layers.modulation, "adaLN that does not start at zero", "Peebles & Xie 2023, §3.2"),
        "norm-scale": Lint(layers.norm_scale, "a random scale of a normalisation", "Ioffe & Szegedy 2015, §3"),
        # the predicted signal
        "unused": Lint(signal.unused, "parameters without a use", "torch DDP, find_unused_parameters", needs_inputs=True),
        "signal-scale": Lint(signal.scale, "vanishing or exploding outputs", "He et al. 2015", needs_inputs=True),
        "gradient-scale": Lint(signal.gradients, "vanishing or exploding gradients", "Glorot & Bengio 2010", needs_inputs=True),
        "collapse": Lint(signal.collapse, "inputs no longer told apart", "Poole et al. 2016; Schoenholz et al. 2017", needs_inputs=True),
        "residual-growth": Lint(signal.residual_growth, "a stream that grows with depth", "Zhang et al. 2019 (Fixup)", needs_inputs=True),
        "loud-head": Lint(signal.loud_head, "a loss far above ln(classes)", "Karpathy 2019", needs_inputs=True),
        "stuck": Lint(signal.stuck, "zero weights that read zeros", "Hu et al. 2021 (LoRA), §4.1", needs_inputs=True),
        "overflow": Lint(signal.overflow, "activations beyond float16", "Micikevicius et al. 2018", needs_inputs=True),
    }
)  # fmt: skip

EXAMPLES = MappingProxyType(
    {
        nn.Embedding: "1x8:int64",
        nn.Linear: "1x{0.in_features}",
        nn.Conv1d: "1x{0.in_channels}x1024",
        nn.Conv2d: "1x{0.in_channels}x224x224",
        nn.Conv3d: "1x{0.in_channels}x32x32x32",
    }
)  # an input that a model may take whose first layer is this


@unmoved
def lint(
    model_or_factory: nn.Module | Callable[[], nn.Module],
    inputs: Any = None,
    *,
    rules: Mapping[str, Lint] = LINTS,
    ignore: Iterable[str] = (),
) -> Findings:
    """Return what a model's init gets wrong.

    A factory is built on meta and its init is recorded, so no weight is ever in memory; a model with values is read as it
    stands; a model that `stepzero.build` made has both. The model stays as it is.

    Args:
        model_or_factory: A model, or a function or class that makes one without arguments.
        inputs: Example inputs, as for `plan`: then the signal is predicted under the model's own laws, and rules about it speak.
        rules: Which rules are asked; extend by `LINTS | {"mine": Lint(find, about, source)}`.
        ignore: Rules to leave out, or places of one: "random-bias", "copies:teacher.*", "*:head.*" (shell patterns).

    Raises:
        ModelError: if the model cannot be built or read.
        InputError, CaptureError: if inputs are given that do not fit.
        CheckError: if `ignore` names no rule.

    Examples:
        >>> found = lint(lambda: nn.Bilinear(512, 512, 8))
        >>> [(f.rule, f.where) for f in found if f.severity != "note"]
        [('bilinear-fan', 'weight')]
    """
    left_out = [_pattern(text, rules) for text in ignore]
    stock = take_stock(model_or_factory, inputs)
    asked = {name: rule for name, rule in rules.items() if inputs is not None or not rule.needs_inputs}
    found = tuple(
        finding
        for name, rule in asked.items()
        for finding in (spot.by(name) for spot in rule.find(stock))
        if not _ignored(finding, left_out)
    )
    sources = {name: rule.source for name, rule in asked.items()}
    made = Findings(found, type(stock.model).__name__, tuple(asked), sources, stock.notes)
    silent = len(rules) - len(asked)
    return replace(made, notes=(*made.notes, _hint(stock, silent))) if silent else made


def select(names: Iterable[str], rules: Mapping[str, Lint] = LINTS) -> dict[str, Lint]:
    """Return the rules of these names.

    Raises:
        CheckError: if there is no such rule; it names those that are near.
    """
    return {name: rules[_known(name, rules)] for name in names}


def _hint(stock: Stock, silent: int) -> str:
    """Say what example inputs would add, and what they may look like."""
    first = next((m for m in stock.model.modules() if type(m) in EXAMPLES), None)
    example = f", such as {EXAMPLES[type(first)].format(first)}" if first is not None else ""
    lone = sum(use.before is None and use.normalised is None for use in stock.uses.values())
    more = (
        f"; so do the neighbours of {lone} of {len(stock.uses)} weights, which no plain Sequential tells"
        if lone
        else ""
    )
    return f"{silent} rules about the signal need example inputs: lint(model, inputs), or --input{example}{more}"


def _pattern(text: str, rules: Mapping[str, Lint]) -> tuple[str, str]:
    """Return (rule, place) of a text such as "copies:teacher.*"."""
    rule, _, place = text.partition(":")
    return (rule if rule == "*" else _known(rule, rules)), place or "*"


def _known(name: str, rules: Mapping[str, Lint]) -> str:
    if name not in rules:
        near = get_close_matches(name, rules, n=3) or sorted(rules)
        raise CheckError(f"there is no lint rule {name!r}. Known are {', '.join(near)}.")
    return name


def _ignored(finding: Finding, left_out: list[tuple[str, str]]) -> bool:
    return any(rule in ("*", finding.rule) and fnmatchcase(finding.where, place) for rule, place in left_out)
