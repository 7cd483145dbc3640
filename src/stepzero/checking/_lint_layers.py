"""Rules about single layers: a gain for another activation, and values that layers of a kind should start from."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import torch
from torch import Tensor, nn

from stepzero.checking._findings import Severity
from stepzero.checking._holding import Holding
from stepzero.checking._rule import Spot
from stepzero.checking._stock import Stock
from stepzero.checking._uses import NORM_LAYERS
from stepzero.moments import weight_name, weight_sites

RECTIFIERS = ("relu", "relu6", "leaky_relu", "prelu", "rrelu", "gelu", "silu", "mish", "hardswish", "elu", "celu")
GAINS = (("ReLU", sqrt(2.0)), ("tanh, as torch has it", 5 / 3))
MANY = 4  # layers from which on an error in each adds up
CELLS = ("LSTM", "LSTMCell", "GRU", "GRUCell", "RNN", "RNNCell")
MODULATIONS = ("adaln", "ada_ln", "adanorm", "ada_norm", "adalayernorm", "modulation")


def default_init(stock: Stock) -> Iterator[Spot]:
    """U(±1/sqrt(fan_in)) has variance 1/(3 fan_in): with a rectifier before it, a layer passes a sixth of the second moment."""
    found = []
    for held, use in stock.weights():
        bound = held.bound
        rectified = (use.before or "").split("(")[0] in RECTIFIERS
        if rectified and use.normalised is False and bound and abs(bound * sqrt(use.fans.fan_in) - 1) < 0.01:
            found.append((held, use, use.fans.fan_in * held.second / use.gain**2))
    for held, use, gain in found:
        message = f"torch's default (a=√5) behind {use.before}: it passes {gain:.3g} of the second moment{_likewise(stock, gain, len(found))}."
        fix = f"Draw it with std {use.gain / sqrt(use.fans.fan_in):.4g} (kaiming for {use.before}), or let stepzero.plan choose."
        yield Spot(_severity(stock, len(found)), held.name, message, {"local_gain": gain}, fix)


def wrong_gain(stock: Stock) -> Iterator[Spot]:
    """calculate_gain knows five activations, so the gain of ReLU is drawn for GELU, SiLU and the like."""
    found = []
    for held, use in stock.weights():
        if not use.before or use.normalised is not False or abs(use.gain - 1) < 1e-9:
            continue
        ratio = held.std * sqrt(use.fans.fan_in)
        for name, gain in GAINS:
            if abs(ratio / gain - 1) < held.tolerance and abs(use.gain / gain - 1) > max(0.03, 2 * held.tolerance):
                found.append((held, use, name, gain))
    for held, use, name, gain in found:
        local = (gain / use.gain) ** 2
        message = f"the gain of {name} ({gain:.4g}) behind {use.before}, whose gain is {use.gain:.4g}: {local:.3g} of the second moment passes{_likewise(stock, local, len(found))}."
        fix = f"stepzero.init.kaiming_normal_(layer, nonlinearity={str(use.before).split('(')[0]!r}) knows its gain."
        yield Spot(_severity(stock, len(found)), held.name, message, {"local_gain": local}, fix)


def _severity(stock: Stock, count: int) -> Severity:
    """Many such layers in a row matter; a residual stream goes past them."""
    return "warning" if count >= MANY and not stock.skips else "note"


def _likewise(stock: Stock, gain: float, count: int) -> str:
    if count < 2:
        return ""
    return (
        f", as {count - 1} others do"
        if stock.skips
        else f"; {count} such layers in a row pass {min(gain**count, 1e99):.2g}"
    )


def random_bias(stock: Stock) -> Iterator[Spot]:
    """A random bias keeps activations from vanishing while inputs are told apart less and less."""
    names = [
        held.name
        for held, module, attribute in stock.places(nn.Linear, nn.modules.conv._ConvNd)
        if attribute == "bias" and held.std > 0
    ]
    if len(names) > 1:
        message = f"{len(names)} biases are random (as in torch's default): what they add is the same for every input, so it hides a vanishing signal from a look at the activations' scale."
        yield Spot("note", names[0], message, {"count": len(names)}, "Start biases from zero.")


def padding_row(stock: Stock) -> Iterator[Spot]:
    """Re-drawing an embedding overwrites the row of zeros that padding_idx stands for; its gradient is zero, so it stays."""
    for held, module, attribute in stock.places(nn.Embedding):
        row = module.padding_idx
        if row is None or attribute != "weight" or held.constant == 0.0:
            continue
        filled = held.law is not None if held.values is None else bool(held.values[row].any())
        if filled:
            message = f"row {row} stands for padding and should be zero; a later draw wrote over it, and no gradient will mend it."
            yield Spot("warning", held.name, message, {"row": row}, f"Zero it: embedding.weight.data[{row}] = 0.")


def tied_embedding(stock: Stock) -> Iterator[Spot]:
    """nn.Embedding draws N(0, 1); the same matrix as a head makes logits of standard deviation √d, unless the head rescales."""
    for held in stock.holdings.values():
        kinds = [isinstance(module, nn.Embedding) for module, _ in held.slot.places]
        if len(held.shape) != 2 or not any(kinds) or all(kinds):
            continue
        predicted = _output_std(stock, held.name)
        logits = held.std * sqrt(held.shape[1]) if predicted is None else predicted
        if logits > 3:
            assumed = "from normalised features " if predicted is None else ""
            message = f"std {held.std:.3g} is shared by an embedding and a head: {assumed}logits of std {logits:.3g}, a loss about {logits**2 / 2:.3g} above ln(classes)."
            fix = f"Draw it with std 1/√d = {1 / sqrt(held.shape[1]):.3g} (and scale the embedding by √d), or smaller."
            severity: Severity = "warning" if predicted is None or logits < 10 else "error"
            yield Spot(severity, held.name, message, {"logit_std": logits}, fix)


def _output_std(stock: Stock, name: str) -> float | None:
    """Return the predicted standard deviation of what a weight puts out; None without inputs, or where it is not read so."""
    if stock.flow is None:
        return None
    nodes = [node for node, *_ in weight_sites(stock.flow) if weight_name(stock.flow, node) == name]
    return max((sqrt(stock.flow.second(node.outputs[0])) for node in nodes), default=None)


def forget_bias(stock: Stock) -> Iterator[Spot]:
    """A forget gate at sigmoid(0) = 1/2 halves an LSTM's memory at each step."""
    for path, module in stock.model.named_modules():
        if not isinstance(module, (nn.LSTM, nn.LSTMCell)):
            continue
        biases = [h for h, owner, a in stock.places(nn.LSTM, nn.LSTMCell) if owner is module and a.startswith("bias")]
        means = [_forget(h, module.hidden_size) for h in biases]
        if means and all(m is not None for m in means):
            layers = len([h for h in biases if "bias_ih" in h.name])
            mean = sum(m for m in means if m is not None) / max(1, layers)
            if abs(mean) < 0.5:
                message = f"the forget gate starts at sigmoid({mean:.2g}): half of the memory is lost at each step."
                fix = f"Set the forget part of one bias, bias[{module.hidden_size}:{2 * module.hidden_size}], to 1."
                yield Spot("note", path or "the root", message, {"mean": mean}, fix)


def recurrent_scale(stock: Stock) -> Iterator[Spot]:
    """torch draws a cell's weights from U(±1/√hidden), whatever the size of its input."""
    for held, use in stock.weights():
        if use.kind in CELLS and "weight_ih" in held.name:
            variance = use.fans.fan_in * held.second
            if not 0.05 < variance < 4:
                verdict = "its gates saturate" if variance > 1 else "it hardly sees its input"
                message = f"gates have variance {variance:.3g} for inputs of variance 1 ({use.fans.fan_in:.4g} inputs): {verdict}."
                fix = f"Draw it with std {1 / sqrt(use.fans.fan_in):.3g}."
                yield Spot("warning", held.name, message, {"variance": variance}, fix)


def packed_orthogonal(stock: Stock) -> Iterator[Spot]:
    """orthogonal_ of packed gates makes the tall matrix orthogonal: none of its square parts is."""
    for held, use in stock.weights():
        rows = held.shape[0] // use.parts
        if use.parts > 1 and len(held.shape) == 2 and rows == held.shape[1] and _is_orthogonal(held, rows):
            message = f"the packed {held.shape[0]}×{held.shape[1]} matrix is orthogonal, its {use.parts} square parts are not: each keeps {1 / use.parts:.2g} of the second moment."
            yield Spot(
                "warning", held.name, message, {"parts": use.parts}, "Draw each part on its own: orthogonal_(part)."
            )


def modulation(stock: Stock) -> Iterator[Spot]:
    """Adaptive layer norms learn from the identity: their modulation starts at zero."""
    for held, _, attribute in stock.places(nn.Linear):
        owner = type(stock.modules.get(held.name.rpartition(".")[0].rpartition(".")[0])).__name__
        places = f"{held.name} {owner}".lower()
        if attribute == "weight" and any(word in places for word in MODULATIONS) and held.second > 0:
            message = f"the modulation of an adaptive norm starts at std {held.std:.3g}: blocks are not the identity."
            yield Spot("note", held.name, message, {"std": held.std}, "Start its weight and bias from zero.")


def norm_scale(stock: Stock) -> Iterator[Spot]:
    """A loop over all parameters that draws normals draws the scales of normalisations too."""
    for held, module, attribute in stock.places(*NORM_LAYERS):
        if attribute != "weight" or held.moments is None or held.constant is not None:
            continue
        mean = held.moments[0]
        if abs(mean) < 0.5 * max(sqrt(held.second), 1e-30) or not 0.5 < abs(mean) < 2:
            message = f"the scale of {type(module).__name__} is random, with mean {mean:.3g} and std {held.std:.3g}, where it starts from 1."
            yield Spot(
                "warning", held.name, message, {"mean": mean, "std": held.std}, "Leave norms out when drawing weights."
            )


def _forget(held: Holding, hidden: int) -> float | None:
    """Return the mean of the forget gate's part of a bias (gates stand as input, forget, cell, output)."""
    if held.values is not None:
        return float(held.values[hidden : 2 * hidden].double().mean())
    if held.law is not None:
        return held.law.mean
    parts = () if held.origin is None else held.origin.parts
    mine = [p for p in parts if p.where and p.where[0].start == hidden and p.where[0].stop == 2 * hidden]
    return mine[-1].law.mean if mine and mine[-1].law is not None else None


def _is_orthogonal(held: Holding, rows: int) -> bool:
    """Say whether a tall matrix is orthogonal as a whole, and its first `rows` rows are not."""
    if held.values is None:
        return held.law is not None and held.law.kind == "orthogonal"
    if held.values.is_complex():
        return False
    return _isometric(held.values) and not _isometric(held.values[:rows])


def _isometric(values: Tensor) -> bool:
    """Say whether wᵀw is a multiple of the identity."""
    w = values.double()
    gram = w.T @ w
    size = gram.diagonal().mean()
    off = gram / size - torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
    return bool(size > 0) and float(off.abs().max()) < 1e-3
