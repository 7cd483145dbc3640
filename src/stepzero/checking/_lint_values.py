"""Rules about values: what is missing, broken, repeated, cut or rounded away."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod, sqrt

import torch
from torch import Tensor, nn

from stepzero.checking._holding import Holding
from stepzero.checking._rule import Spot
from stepzero.checking._stock import Stock

GARBAGE = 1e10  # no init draws this
SMALLEST = {torch.float16: 6.2e-5, torch.bfloat16: 1.2e-38}  # least normal numbers
ATOM = 2.0**-24  # share of -1 among float32 draws of uniform_(-1, 1)
NEVER_CUTS = 6.0  # bounds at this many sigmas drop less than one value in 500 million


def unwritten(stock: Stock) -> Iterator[Spot]:
    """Memory that torch.empty gave and nothing ever wrote."""
    for held in stock.holdings.values():
        reasons = [] if held.origin is None else [p.reason for p in held.origin.parts]
        if any(reason.startswith("nothing was ever written") for reason in reasons):
            part = "" if len(reasons) == 1 else "part of "
            message = f"{part}its memory comes from torch.empty and nothing writes it: it holds whatever was there."
            yield Spot("error", held.name, message, {"shape": held.shape}, "Initialise it in the constructor.")
        elif held.values is not None and _garbage(held.values):
            message = "it holds values as only memory that nobody wrote has them."
            yield Spot("error", held.name, message, {"largest": float(held.values.abs().max())}, "Initialise it.")


def not_finite(stock: Stock) -> Iterator[Spot]:
    """NaN or infinity."""
    for held in stock.holdings.values():
        if held.values is not None and not bool(torch.isfinite(held.values).all()):
            bad = int((~torch.isfinite(held.values)).sum())
            message = f"{bad} of {held.values.numel()} values are not finite."
            yield Spot("error", held.name, message, {"bad": bad}, "Initialise it; look at its type if it is a half.")


def lost(stock: Stock) -> Iterator[Spot]:
    """nn.init on the weight of a parametrised layer changes a temporary: weight_norm and spectral_norm compute it anew."""
    fix = "Draw before weight_norm or spectral_norm is applied, or draw the parameters that it is computed from."
    for draw in stock.lost:
        op, _, line = draw.partition(" at ")
        message = (
            f"{op} changes a tensor that is computed anew from the parameters at each read: that init has no effect."
        )
        yield Spot("error", line, message, {"op": op}, fix)
    for path, module in stock.model.named_modules():
        for attribute, fresh in _hooked(module):
            stale = module.__dict__.get(attribute)
            if (
                isinstance(stale, Tensor)
                and not stale.is_meta
                and not torch.allclose(stale, fresh, rtol=1e-3, atol=1e-6)
            ):
                where = f"{path}.{attribute}" if path else attribute
                message = f"its values were changed, but the next forward pass computes it anew from {attribute}_g and {attribute}_v: that init has no effect."
                yield Spot(
                    "error", where, message, {"std": float(stale.std()), "std_in_effect": float(fresh.std())}, fix
                )


def _hooked(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the attributes that a weight_norm hook computes, with the values that it would give them now."""
    for hook in module._forward_pre_hooks.values():
        if type(hook).__name__ == "WeightNorm" and not module._parameters[f"{hook.name}_v"].is_meta:  # type: ignore[union-attr,attr-defined]
            with torch.no_grad():
                yield hook.name, hook.compute_weight(module)  # type: ignore[attr-defined]


def copies(stock: Stock) -> Iterator[Spot]:
    """Two parameters that hold the same random values, and are not tied: deep copies of one layer."""
    first: dict[object, str] = {}
    for held in stock.holdings.values():
        key = _fingerprint(held)
        if key is None:
            continue
        owner = first.setdefault(key, held.name)
        if owner != held.name:
            message = f"it holds the same values as {owner}, and is not tied to it."
            fix = "Draw every copy anew after copying; leave it if it is a target or teacher network."
            yield Spot("warning", held.name, message, {"same_as": owner}, fix)


def equal_rows(stock: Stock) -> Iterator[Spot]:
    """Rows of a weight that repeat block by block: every shard drew the same values, and the rank is a fraction."""
    for held in stock.holdings.values():
        blocks = 0 if held.values is None else _blocks(held.values)
        if blocks:
            rank = held.shape[0] // blocks
            message = f"its rows are {blocks} equal blocks: rank {rank} at most instead of {min(held.shape[0], held.values[0].numel())}."  # type: ignore[index]  # blocks: it has values
            fix = "Draw each shard from its own part of one stream: stepzero.materialize_ does."
            yield Spot("error", held.name, message, {"blocks": blocks}, fix)


def truncation(stock: Stock) -> Iterator[Spot]:
    """trunc_normal_ takes its bounds in absolute numbers: with std=0.02 and ±2 it cuts at 100 sigmas, with std=1 at 2."""
    for held in stock.holdings.values():
        if not any("truncated_normal" in line or "erfinv" in line for line in held.history):
            continue
        if held.truncated is None and held.std > 0:
            message = f"trunc_normal_ with std {held.std:.3g} and bounds of many sigmas cuts nothing: it is a plain normal, at the price of a slower draw."
            evidence = {"std": held.std}
            if any("erfinv" in line for line in held.history) and held.dtype == torch.float32:
                evidence["expected_at_bound"] = prod(held.shape) * ATOM
                message += f" One draw in 2^24 falls on the lower bound itself, far beyond the others: erfinv(-1) is -inf before it is cut ({evidence['expected_at_bound']:.2g} expected here)."
            yield Spot("note", held.name, message, evidence, "Give a and b in multiples of std, or use normal_.")
        elif held.truncated is not None:
            yield from _shrunk(held)


def _shrunk(held: Holding) -> Iterator[Spot]:
    """Bounds at ±2 sigmas leave 0.88 of the standard deviation that was asked for."""
    law = held.truncated
    assert law is not None
    wide = max(abs(law.low), abs(law.high))
    share = law.std / law.parent_std
    if wide < NEVER_CUTS and share < 0.995:
        message = f"bounds at {law.low:.3g} and {law.high:.3g} sigmas leave {share:.3g} of the std asked for ({law.std:.3g} in fact)."
        fix = f"Divide std by {share:.4g}, or draw stepzero.TruncatedNormal(std), whose std is the realised one."
        yield Spot("note", held.name, message, {"share": share, "std": law.std}, fix)


def underflow(stock: Stock) -> Iterator[Spot]:
    """A scale below what the type's normal numbers reach: values are rounded to a few levels, or to zero."""
    for held in stock.holdings.values():
        least = SMALLEST.get(held.dtype)
        if least is not None and 0 < held.std < 4 * least:
            message = f"std {held.std:.3g} in {str(held.dtype).removeprefix('torch.')}, whose normal numbers end at {least:.2g}: most values lose their digits."
            yield Spot("warning", held.name, message, {"std": held.std, "least": least}, "Keep it in float32.")


def complex_uniform(stock: Stock) -> Iterator[Spot]:
    """kaiming_uniform_ and uniform_ give real and imaginary part the whole bound each: E|w|² is twice what was meant."""
    for held, use in stock.weights():
        values = held.values
        if values is None or not values.is_complex() or values.numel() < 64:
            continue
        parts = torch.view_as_real(values).double()
        bound = float(parts.abs().max())
        uniform = abs(sqrt(float(parts.square().mean()) * 3.0) / bound - 1) < held.tolerance
        if uniform and abs(bound * sqrt(use.seen[0]) - 1) < 0.05:
            message = f"real and imaginary part are each uniform to the full bound {bound:.3g}: E|w|² is twice that of a real layer."
            yield Spot("warning", held.name, message, {"second": held.second, "bound": bound}, "Divide it by √2.")


def _garbage(values: Tensor) -> bool:
    """Finite, but huge or denormal: no law of an init gives that."""
    x = values.abs() if not values.is_complex() else torch.view_as_real(values).abs()
    if not x.numel() or not bool(torch.isfinite(x).all()):
        return False
    tiny = torch.finfo(x.dtype).tiny
    denormal = bool(((x > 0) & (x < tiny)).any()) and x.dtype in (torch.float32, torch.float64)
    return bool((x > GARBAGE).any()) or denormal


def _fingerprint(held: Holding) -> object | None:
    """Return what only a copy shares; None for constants, and for what is too small to tell."""
    if held.slot.tensor.numel() < 16 or held.constant is not None:
        return None
    if held.values is None:
        source = "" if held.origin is None else held.origin.copy_of
        return source or (held.name if held.origin is not None else None)
    if held.std == 0:
        return None
    flat = held.values.reshape(-1)
    probe = flat[:: max(1, flat.numel() // 64)][:64]
    return held.shape, str(held.dtype), held.moments, tuple(probe.tolist())


def _blocks(values: Tensor) -> int:
    """Return into how many equal blocks of rows a matrix falls: 2, 4, 8 …; 0 if its rows differ, or are constant."""
    if values.dim() < 2 or values.shape[0] < 2 or values[0].numel() < 4:
        return 0
    rows = values.reshape(values.shape[0], -1)
    if bool((rows[0] == rows[0, 0]).all()):
        return 0
    for blocks in (n for n in (8, 4, 2, 3) if rows.shape[0] % n == 0):
        step = rows.shape[0] // blocks
        if torch.equal(rows[step:], rows[:-step]) and not bool((rows == rows[0]).all()):
            return blocks
    return 0
