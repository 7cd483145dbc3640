"""The last resort: run an op without a rule, and its vector–Jacobian product, on random tensors with the right moments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stepzero.errors import NoRuleError
from stepzero.moments import _roles as R
from stepzero.moments._call import Call
from stepzero.moments._joins import summed
from stepzero.moments._signal import Moments, Signal
from stepzero.network import Ref

Run = tuple[dict[int, Tensor], list[Tensor]]  # what was put in for each signal, and what came out
REPLICAS = 4  # inputs drawn for each op: pairs across inputs need at least two
MAX_ELEMENTS = 1 << 22


def probed(call: Call) -> tuple[Signal | None, ...]:
    """Return output moments measured on Gaussian tensors that carry the operands' moments.

    Averages over the whole output: position patterns are not resolved. The sampling error is that of one
    tensor of the op's own size; backward, each operand's mean squared gradient for white noise at the output.

    Raises:
        NoRuleError: if the op cannot run on such tensors, or they are too large.
    """
    names = [k for k, v in call.node.arguments.items() if _refers(v)]
    generator = torch.Generator().manual_seed(call.node.id)
    operands = {k: _signals(call, call.node.arguments[k]) for k in names}
    present = [s for group in operands.values() for s in group if s is not None]
    if not present:
        return (None,) * len(call.shapes)
    _require_numbers(call, names)
    if max(torch.Size(s.shape).numel() for s in present) > MAX_ELEMENTS:
        raise NoRuleError(f"{call.op} (at {call.where}) has no rule and its operands are too large to probe")
    fields = {id(s): _Field(s, generator) for s in present}
    types = {id(s): call.graph.values[v].dtype for v in call.node.inputs if (s := call.signals.get(v)) is not None}
    runs = []
    for _ in range(REPLICAS):
        drawn = {id(s): fields[id(s)].draw(generator, types[id(s)]) for s in present}
        filled = {k: _filled(call, call.node.arguments[k], drawn) for k in names}
        runs.append((drawn, _run(call, filled)))
    return _signals_out(call, runs, present, generator)


def _refers(item: Any) -> bool:
    return isinstance(item, Ref) or (isinstance(item, (list, tuple)) and any(isinstance(p, Ref) for p in item))


def _signals(call: Call, item: Any) -> list[Signal | None]:
    refs = [item] if isinstance(item, Ref) else item
    return [call.signals.get(r.id) if isinstance(r, Ref) else None for r in refs]


def _require_numbers(call: Call, names: list[str]) -> None:
    """Raise before anything is drawn if an argument is neither a signal nor known."""
    for name in names:
        item = call.node.arguments[name]
        for ref in [item] if isinstance(item, Ref) else item:
            if isinstance(ref, Ref) and ref.id not in call.signals:
                call.fill(ref)


def _filled(call: Call, item: Any, drawn: dict[int, Tensor]) -> Any:
    if isinstance(item, Ref):
        signal = call.signals.get(item.id)
        return call.fill(item) if signal is None else drawn[id(signal)]
    return [_filled(call, part, drawn) for part in item]


def _run(call: Call, filled: dict[str, Any]) -> list[Tensor]:
    try:
        with torch.enable_grad():
            result = call.run(**filled)
    except NoRuleError:
        raise
    except Exception as error:
        raise NoRuleError(
            f"no rule for {call.op} (at {call.where}), and it cannot be probed: {type(error).__name__}: {error}. "
            f"To add one: plan(..., rules=RULES | {{{call.op!r}: my_rule}})"
        ) from None
    return [result] if isinstance(result, Tensor) else [t for t in result if isinstance(t, Tensor)]


class _Field:
    """Gaussian tensors with given moments: parts shared by all, by one input's places, by one place's inputs, by none."""

    def __init__(self, signal: Signal, generator: torch.Generator) -> None:
        self.signal = signal
        m = signal.moments
        square = m.mean**2
        apart = (m.apart - square).clamp_min(0)
        elsewhere = (m.elsewhere - square - apart).clamp_min(0)
        across = (m.across - square - apart).clamp_min(0)
        own = (m.second - square - apart - elsewhere - across).clamp_min(0)
        self.place_shape = self._shape("batch")
        self.sd = [t.sqrt() for t in (apart, elsewhere, across, own)]
        self.common = torch.randn(self._shape("batch", "position"), generator=generator, dtype=torch.float64)
        self.place = torch.randn(self.place_shape, generator=generator, dtype=torch.float64)

    def _shape(self, *without: R.Role) -> list[int]:
        s = self.signal
        return [1 if R.of(a) & set(without) else n for a, n in zip(s.roles, s.shape, strict=True)]

    def draw(self, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Return one batch of inputs, ready for a gradient; complex numbers have parts that are alike."""
        x = self._real(generator)
        if dtype.is_complex:
            mean = self.signal.moments.mean.to(x.dtype)
            x = torch.complex(x - mean, self._real(generator) - mean) / 2**0.5 + mean
        return x.clone().requires_grad_()

    def _real(self, generator: torch.Generator) -> Tensor:
        by_input = torch.randn(self._shape("position"), generator=generator, dtype=torch.float64)
        own = torch.randn(self.signal.shape, generator=generator, dtype=torch.float64)
        parts = (self.common, by_input, self.place, own)
        x = self.signal.moments.mean + sum(s * p for s, p in zip(self.sd, parts, strict=True))
        return x.expand(self.signal.shape).to(torch.float32)


def _signals_out(
    call: Call, runs: list[Run], present: list[Signal], generator: torch.Generator
) -> tuple[Signal | None, ...]:
    outputs: list[Signal | None] = []
    for i, shape in enumerate(call.shapes):
        ys = [out[i] for _, out in runs]
        if not (ys[0].is_floating_point() or ys[0].is_complex()):
            outputs.append(None)
            continue
        roles = _roles_like(shape, present)
        moments = _measured([y.detach() for y in ys], roles)
        outputs.append(Signal(shape, roles, moments, _tangent(ys[0], runs[0][0], present, generator)))
    return tuple(outputs)


def _roles_like(shape: tuple[int, ...], present: list[Signal]) -> R.Roles:
    """Take over the roles of the operand whose shape is most alike."""
    best = max(
        present, key=lambda s: (len(s.shape) == len(shape), sum(a == b for a, b in zip(s.shape, shape, strict=False)))
    )
    if len(best.shape) == len(shape):
        usual = R.guess(shape)
        pairs = zip(best.roles, best.shape, shape, usual, strict=True)
        return tuple(a if own == n else (R.resize(a, n) if a else u) for a, own, n, u in pairs)
    return R.guess(shape)


def _measured(ys: list[Tensor], roles: R.Roles) -> Moments:
    """Average moments over elements and pairs of replicas; the parts of complex numbers add up."""
    if ys[0].is_complex():
        parts = [_measured([getattr(y, part) for y in ys], roles) for part in ("real", "imag")]
        return Moments(parts[0].mean, *(a + b for a, b in zip(parts[0][1:], parts[1][1:], strict=True)))
    ys = [y.double() for y in ys]
    if not all(bool(torch.isfinite(y).all()) for y in ys):
        ys = [torch.nan_to_num(y, 0.0, 0.0, 0.0) for y in ys]
    places = R.axes(roles, "position")
    n = max(1, R.count(roles, "position"))
    one = (1,) * len(roles)

    def average(value: Tensor) -> Tensor:
        return value.mean().reshape(one)

    def total(y: Tensor) -> Tensor:
        return y.sum(dim=places, keepdim=True) if places else y

    second = average(sum(y * y for y in ys) / len(ys))  # type: ignore[arg-type]
    pairs = [(a, b) for i, a in enumerate(ys) for b in ys[:i]]
    across = average(sum(a * b for a, b in pairs) / len(pairs))  # type: ignore[arg-type]
    whole = average(sum(total(y) ** 2 for y in ys) / len(ys)) / n  # type: ignore[arg-type]
    apart_whole = average(sum(total(a) * total(b) for a, b in pairs) / len(pairs)) / n  # type: ignore[arg-type]
    elsewhere = (whole - second) / (n - 1) if n > 1 else second
    apart = (apart_whole - across) / (n - 1) if n > 1 else across
    return Moments(average(sum(ys) / len(ys)), second, neighbours(ys, places, elsewhere), elsewhere, across, apart)  # type: ignore[arg-type]


def neighbours(ys: list[Tensor], places: list[int], otherwise: Tensor) -> Tensor:
    """Average products of adjacent places."""
    products = [
        (y.narrow(d, 1, y.shape[d] - 1) * y.narrow(d, 0, y.shape[d] - 1)).mean()
        for y in ys
        for d in places
        if y.shape[d] > 1
    ]
    return torch.stack(products).mean().reshape(otherwise.shape) if products else otherwise


def _tangent(y: Tensor, drawn: dict[int, Tensor], present: list[Signal], generator: torch.Generator) -> Moments | None:
    """Weigh each operand's mean tangent by its measured gain, the same for pairs: its adjoint spreads gradients evenly."""
    changes = [(s, s.tangent) for s in present if s.tangent is not None]
    if not y.requires_grad or not changes:
        return None
    noise = torch.randn(y.shape, generator=generator, dtype=torch.complex64 if y.is_complex() else torch.float32)
    noise = noise.to(y.dtype)
    leaves = [drawn[id(s)] for s, _ in changes]
    try:
        grads = torch.autograd.grad(y, leaves, noise, retain_graph=True, allow_unused=True)
    except RuntimeError:  # a custom op without a backward formula: its author trains nothing before it
        return None
    parts: list[tuple[Moments | None, float | Moments]] = []
    for (_, change), g in zip(changes, grads, strict=True):
        if g is not None:
            ratio = float(g.abs().double().square().nan_to_num(0.0).sum()) / y.numel()
            parts.append((change.each(lambda t: t.mean().reshape((1,) * y.dim())), ratio))
    return summed(parts)
