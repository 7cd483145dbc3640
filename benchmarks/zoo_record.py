"""Record one model's own init, write it into NaN memory, and hold real draws of its constructor against the recorded laws."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from draws import tested
from zoo_models import build

from stepzero import materialize_
from stepzero.filling import _materialize
from stepzero.network import Recording, buffer_slots, parameter_slots, recording
from stepzero.planning import plan

WRITTEN = 600_000_000  # parameters at most of a model that is written into NaN memory
DRAWN = 30_000_000  # and of one that its own constructor draws as well
SEEDS = (0, 1)
ALARM = 0.01  # family-wise, over all tests of all models


@dataclass(frozen=True)
class RecordRow:
    """What came of recording one model."""

    model: str
    ok: bool
    rung: str = ""
    seconds: float = 0.0  # of process time, to build and record
    nodes: int = 0
    parameters: int = 0
    unused: int = 0  # parameters whose law could not be read
    dead: int = 0
    assumed: int = 0
    message: str = ""
    elements: int = 0
    unread: int = 0  # elements of those
    filled: str = ""  # "yes", or why it was not written; "" where it is too large
    tests: int = 0  # of real draws against laws
    lowest: float = 1.0  # the smallest p-value, and where
    where: str = ""


def measure_record(name: str) -> RecordRow:
    """Build, record and write one model; the constructor's own draws are tested where it is small."""
    start = time.process_time()
    try:
        model = build(name, record=True)
        found = recording(model)
    except Exception as error:
        return RecordRow(name, ok=False, message=f"{type(error).__name__}: {error}"[:300])
    assert found is not None
    seconds = round(time.process_time() - start, 3)
    unread = {key: reason for key, reason in found.unread().items() if found[key].parameter}
    sizes = {key: math.prod(origin.shape) for key, origin in found.items() if origin.parameter}
    facts = {
        "model": name, "ok": True, "rung": found.rung, "seconds": seconds, "nodes": len(found), "parameters": len(sizes),
        "unused": len(unread), "assumed": len(found.assumed), "message": "; ".join(dict.fromkeys(unread.values()))[:300],
        "elements": sum(sizes.values()), "unread": sum(sizes[key] for key in unread),
    }  # fmt: skip
    if sum(sizes.values()) > WRITTEN:
        return RecordRow(**facts)
    filled = fill(model)
    if sum(sizes.values()) > DRAWN:
        return RecordRow(**facts, filled=filled)
    try:
        facts |= against_draws(found, [real(name, seed) for seed in SEEDS])
    except Exception as error:
        facts |= {"where": f"{type(error).__name__}: {error}"[:200], "lowest": 0.0}
    return RecordRow(**facts, filled=filled)


def fill(model: torch.nn.Module) -> str:
    """Write a recorded model into memory full of NaN; return "yes", or what went wrong."""
    original = _materialize.empty_like

    def poisoned(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
        made = original(tensor, device)
        return made.fill_(float("nan")) if made.is_floating_point() else made.fill_(-99)

    _materialize.empty_like = poisoned  # type: ignore[assignment]
    try:
        materialize_(model, plan(model, goal="own"))
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    finally:
        _materialize.empty_like = original
    slots = {**parameter_slots(model), **buffer_slots(model)}
    left = [name for name, slot in slots.items() if slot.tensor.is_floating_point() and slot.tensor.isnan().any()]
    return f"NaN left in {', '.join(left[:4])}" if left else "yes"


def real(name: str, seed: int) -> Mapping[str, torch.Tensor]:
    """Return the tensors of a model as its constructor draws them."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    model = build(name, device="cpu")
    return {name: slot.tensor for name, slot in {**parameter_slots(model), **buffer_slots(model)}.items()}


def against_draws(found: Recording, draws: list[Mapping[str, torch.Tensor]]) -> dict[str, object]:
    """Return how many tests were made, and the smallest p-value with its place."""
    results = list(tested(found, draws))
    name, test, lowest = min(results, key=lambda result: result[2], default=("", "", 1.0))
    return {"tests": len(results), "lowest": lowest, "where": f"{name}: {test}" if name else ""}


def record_table(found: list[RecordRow]) -> str:
    """Return how much of each library's own init is known, and every model of which something is not."""
    limit = ALARM / max(1, sum(row.tests for row in found))
    lines = [
        "| library | models | built | on meta | parameters | law or value known | of elements | s median | s max | written, no NaN "
        "| tests of real draws | alarms |",
        "|--" * 12 + "|",
    ]
    for library in sorted({row.model.partition(":")[0] for row in found}):
        own = [row for row in found if row.model.startswith(library + ":")]
        good = [row for row in own if row.ok]
        total, unread = sum(row.parameters for row in good), sum(row.unused for row in good)
        elements, missing = sum(row.elements for row in good), sum(row.unread for row in good)
        times = [row.seconds for row in good]
        lines.append(
            f"| {library} | {len(own)} | {len(good)} | {sum(row.rung == 'meta' for row in good)} | {total} | "
            f"{_percent(total - unread, total, 3)} | {_percent(elements - missing, elements, 4)} | {statistics.median(times):.2f} | "
            f"{max(times):.2f} | {sum(row.filled == 'yes' for row in good)} of {sum(bool(row.filled) for row in good)} | "
            f"{sum(row.tests for row in good)} | {sum(row.lowest < limit for row in good)} |"
        )
    odd = [
        row
        for row in found
        if not row.ok or row.unused or row.rung != "meta" or row.lowest < limit or row.filled not in ("", "yes")
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"An alarm is a p-value below {limit:.1e}: {ALARM:.0%} over all tests together.",
            "",
            *map(_line, odd),
        ]
    )


def _percent(part: int, whole: int, places: int) -> str:
    """Return a share that is never rounded up: 100 only where nothing is missing."""
    return f"{math.floor(part * 10 ** (places + 2) / max(1, whole)) / 10**places:.{places}f} %"


def _line(row: RecordRow) -> str:
    trouble = [row.message] if row.message else []
    trouble += [f"not written: {row.filled}"] if row.filled not in ("", "yes") else []
    trouble += [f"p = {row.lowest:.1e} at {row.where}"] if row.lowest < 1e-6 else []
    trouble += ["built for real"] if row.rung == "real" else []
    return " ".join(f"- {row.model}: {row.unused} of {row.parameters} unread. {'; '.join(trouble)}".split())
