"""Plan, capture or record whole libraries, and tell what came of it, model by model.

    python benchmarks/zoo.py plan                   # plan timm, torchvision, transformers, diffusers, MONAI and torch.nn
    python benchmarks/zoo.py capture                # only read them
    python benchmarks/zoo.py record                 # record their own inits: how many parameters have a law
    python benchmarks/zoo.py plan --only timm:vit   # names that contain this
    python benchmarks/zoo.py plan --seconds 120     # stop after two minutes; the next run goes on from there
    python benchmarks/zoo.py plan --again           # those that failed, once more
    python benchmarks/zoo.py --table                # the tables of what has run

Each model is built without memory for its parameters and read in training mode. Results are appended to a JSON-lines
file, one line a model, so that a run can be stopped and taken up again at any time; the last line of a model counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from zoo_models import build, example, names, training
from zoo_plan import PlanRow, measure_plan, plan_table
from zoo_record import RecordRow, measure_record, record_table

from stepzero.network import capture

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """What came of one model."""

    model: str
    ok: bool
    rung: str = ""
    seconds: float = 0.0
    nodes: int = 0
    parameters: int = 0
    unused: int = 0
    dead: int = 0
    assumed: int = 0
    message: str = ""


def measure(name: str) -> Row:
    """Build and capture one model; detection runs in eval mode, since training asks for boxes."""
    try:
        model = build(name)
        inputs = example(name, model)
        start = time.process_time()
        graph = capture(model, inputs, training=training(name))
    except Exception as error:
        return Row(name, ok=False, message=f"{type(error).__name__}: {error}"[:300])
    seconds, parameters = time.process_time() - start, len(graph.parameters)
    return Row(name, True, graph.rung, round(seconds, 3), len(graph.nodes), parameters, len(graph.unused), len(graph.dead),
               len(graph.assumed), "; ".join(graph.assumed)[:200])  # fmt: skip


def run(kind: str, only: str, seconds: float, *, again: bool) -> None:
    """Measure what has not been measured yet, until the time is over."""
    RESULTS.mkdir(exist_ok=True)
    done = {row.model for row in rows(kind) if row.ok or not again}
    nodes = {row.model: row.nodes for row in rows("capture")}
    todo = [name for name in names(nodes) if only in name and name not in done]
    end = time.monotonic() + seconds
    with (RESULTS / f"zoo_{kind}.jsonl").open("a", encoding="utf-8") as out:
        for place, name in enumerate(todo):
            if time.monotonic() > end:
                print(f"{len(todo) - place} of {len(todo)} are left", flush=True)
                return
            row = KINDS[kind].measure(name)
            out.write(json.dumps(asdict(row)) + "\n")
            out.flush()
            if not row.ok or place % 50 == 0:
                print(f"{place + 1}/{len(todo)} {name} {row.message}", flush=True)


def rows(kind: str) -> list[Any]:
    """Return what has been measured, the last line of each model."""
    path = RESULTS / f"zoo_{kind}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [KINDS[kind].row(**json.loads(line)) for line in lines]
    return list({row.model: row for row in found}.values())


def capture_table(found: list[Row]) -> str:
    """Return the results as Markdown: one line a library, then every model that failed or left meta."""
    lines = [
        "| library | models | captured | on meta | s median | s p90 | s max | nodes median | every parameter read |",
        "|--" * 9 + "|",
    ]
    for library in sorted({row.model.partition(":")[0] for row in found}):
        own = [row for row in found if row.model.startswith(library + ":")]
        good = [row for row in own if row.ok]
        times = sorted(row.seconds for row in good)
        lines.append(
            f"| {library} | {len(own)} | {len(good)} | {sum(row.rung == 'meta' for row in good)} | {statistics.median(times):.2f} | "
            f"{times[int(0.9 * len(times))]:.2f} | {times[-1]:.2f} | {statistics.median(row.nodes for row in good):.0f} | "
            f"{sum(row.unused == 0 for row in good)} |"
        )
    odd = [row for row in found if not row.ok or row.rung != "meta"]
    return "\n".join(lines + [""] + [f"- {row.model}: {row.rung or 'failed'}. {row.message}" for row in odd])


@dataclass(frozen=True)
class Kind:
    """One table: its row, how a model is measured, and how the rows are shown."""

    row: type
    measure: Callable[[str], Any]
    table: Callable[[list[Any]], str]


KINDS = {
    "plan": Kind(PlanRow, measure_plan, plan_table),
    "capture": Kind(Row, measure, capture_table),
    "record": Kind(RecordRow, measure_record, record_table),
}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"what to do: {', '.join(KINDS)}")
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--again", action="store_true", help="try those that failed once more")
    parser.add_argument("--table", action="store_true", help="show tables, run nothing")
    options = parser.parse_args()
    if odd := set(options.kinds) - set(KINDS):
        parser.error(f"{', '.join(odd)}: choose from {', '.join(KINDS)}")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for kind in () if options.table else options.kinds:
        run(kind, options.only, options.seconds, again=options.again)
    for kind in (options.kinds or KINDS) if options.table or not options.kinds else ():
        print(f"{kind}\n\n{KINDS[kind].table(rows(kind))}\n")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
