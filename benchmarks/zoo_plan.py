"""Plan one model of the zoo, give it memory where it is small, and say what had no rule, what it took, and what failed."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from zoo_models import build, example, family, training

from stepzero import materialize_
from stepzero.errors import StepZeroError
from stepzero.laws import Kept
from stepzero.moments import _propagate
from stepzero.planning import Plan, plan

STATUS = Path("/proc/self/status")
SMALL = 20_000_000  # parameters that are drawn too
TOO_LARGE = "too large for this table"


@dataclass(frozen=True)
class PlanRow:
    """What came of planning one model."""

    model: str
    ok: bool
    family: str = ""
    seconds: float = 0.0  # of process time, capture included
    nodes: int = 0
    parameters: int = 0
    kept: int = 0
    probed: dict[str, int] = field(default_factory=dict)  # op → places that were measured for want of a rule
    passed: dict[str, int] = field(default_factory=dict)  # op → places that could not be measured either
    probing: float = 0.0  # seconds of the above
    odd: int = 0  # weight ops whose predicted second moment is not a positive number
    filled: str = ""  # "yes", or why it was not given memory
    notes: str = ""
    message: str = ""
    memory: float = 0.0  # GiB at the peak, above what the process held before


@dataclass
class Watch:
    """What a plan does without rules, and how long that takes."""

    nodes: int = 0
    seconds: float = 0.0
    probed: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)

    def counting(self, run: Callable[[Any], Any], counter: Counter[str]) -> Callable[[Any], Any]:
        """Return `run` such that the calls which succeed are counted, and all are timed."""

        def counted(call: Any) -> Any:
            start = time.process_time()
            try:
                result = run(call)
            finally:
                self.seconds += time.process_time() - start
            counter[call.op] += 1
            return result

        return counted


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    """Watch propagation while this lasts."""
    watch, probed, passed, walk = Watch(), _propagate.probed, _propagate.passed, _propagate._Walk.leaves

    def leaves(self: Any, *given: Any) -> None:
        watch.nodes = len(self.graph.nodes)
        walk(self, *given)

    _propagate.probed, _propagate.passed = watch.counting(probed, watch.probed), watch.counting(passed, watch.passed)
    _propagate._Walk.leaves = leaves  # type: ignore[method-assign]
    try:
        yield watch
    finally:
        _propagate.probed, _propagate.passed, _propagate._Walk.leaves = probed, passed, walk  # type: ignore[method-assign]


def measure_plan(name: str) -> PlanRow:
    """Build one model as `stepzero.build` makes it, plan it, and draw the plan into it if it is small."""
    held = _reset_peak()
    try:
        model = build(name, record=True).train(training(name))
        inputs = example(name, model)
        with watching() as watch:
            start = time.process_time()
            made = plan(model, inputs)
            seconds, memory = time.process_time() - start, _status("VmHWM") - held
    except Exception as error:
        return PlanRow(name, ok=False, family=family(name), message=_line_of(error, 500))
    kept = sum(isinstance(entry.law, Kept) for entry in made.entries)
    moments = [e.second_moment for e in made.entries if e.second_moment is not None and "weight" in e.name]
    odd = sum(not 0 < moment < float("inf") for moment in moments)
    small = sum(parameter.numel() for parameter in model.parameters()) <= SMALL
    return PlanRow(name, True, family(name), round(seconds, 3), watch.nodes, len(made), kept, dict(watch.probed),
                   dict(watch.passed), round(watch.seconds, 3), odd, filled(model, made) if small else TOO_LARGE,
                   "; ".join(made.notes)[:600], memory=round(memory, 2))  # fmt: skip


def _line_of(error: Exception, most: int) -> str:
    """Return an error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:most]


def _reset_peak() -> float:
    """Forget the peak of memory so far, and return what is held now, in GiB (Linux; elsewhere 0)."""
    if not STATUS.exists():
        return 0.0
    gc.collect()
    (STATUS.parent / "clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _status(key: str) -> float:
    lines = STATUS.read_text(encoding="ascii").splitlines() if STATUS.exists() else []
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith(key + ":")), 0.0)


def filled(model: torch.nn.Module, made: Plan) -> str:
    """Give a model memory that starts as NaN, and say whether all of it was written."""
    try:
        with _nan_first():
            materialize_(model, made, seed=0)
    except StepZeroError as error:
        return _line_of(error, 300)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    holes = [name for name, t in tensors.items() if t.is_meta or bool(t.isnan().any())]
    return f"{len(holes)} tensors were not written: {', '.join(holes[:3])}" if holes else "yes"


@contextlib.contextmanager
def _nan_first() -> Iterator[None]:
    """Let fresh memory hold NaN, so that what nobody writes shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def plan_table(rows: list[PlanRow]) -> str:
    """Return a line for each family, the ops without a rule, and every model that failed, was not filled or is predicted oddly."""
    lines = [
        "| family | models | planned | filled of tried | parameters | kept | nodes | measured | passed | odd | s median | s max | GiB max |",
        "|--" * 13 + "|",
    ]
    libraries, families = {row.model.partition(":")[0] for row in rows}, {row.family for row in rows}
    for group in dict.fromkeys(("all", *sorted(libraries), *sorted(families))):
        own = [row for row in rows if group in ("all", row.family, row.model.partition(":")[0])]
        lines.append(_line(group, own))
    lines += ["", "Ops without a rule, measured / passed, and how many models have them:", ""]
    lines += [f"- {line}" for line in _ops(rows)]
    failed = [row for row in rows if not row.ok]
    unfilled = [row for row in rows if row.ok and row.filled not in ("yes", TOO_LARGE)]
    lines += ["", "Failed:", "", *(f"- {row.model}: {' '.join(row.message.split())}" for row in failed)]
    lines += ["", "Not given memory:", "", *(f"- {row.model}: {' '.join(row.filled.split())}" for row in unfilled)]
    odd = [row for row in rows if row.ok and row.odd]
    lines += [
        "",
        "Weight ops whose predicted second moment is 0 or no number:",
        "",
        *(f"- {row.model}: {row.odd}" for row in odd),
    ]
    return "\n".join(lines)


def _line(group: str, own: list[PlanRow]) -> str:
    good = [row for row in own if row.ok]
    tried = [row for row in good if row.filled != TOO_LARGE]
    times = [row.seconds for row in good] or [0.0]
    total = {key: sum(getattr(row, key) for row in good) for key in ("parameters", "kept", "nodes")}
    probed, passed = (sum(sum(getattr(row, key).values()) for row in good) for key in ("probed", "passed"))
    return (
        f"| {group} | {len(own)} | {len(good)} | {sum(row.filled == 'yes' for row in tried)} of {len(tried)} | "
        f"{total['parameters']} | {total['kept']} | {total['nodes']} | {probed} | {passed} | {sum(row.odd for row in good)} | "
        f"{statistics.median(times):.2f} | {max(times):.2f} | {max((row.memory for row in good), default=0.0):.2f} |"
    )


def _ops(rows: list[PlanRow]) -> list[str]:
    probed, passed, models = Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        probed.update(row.probed)
        passed.update(row.passed)
        models.update({*row.probed, *row.passed})
    return [f"{op}: {probed[op]} / {passed[op]} in {n} models" for op, n in models.most_common()]
