"""Capture whole libraries, or record their own inits, and tell what came of it, model by model.

    python benchmarks/zoo.py --capture                 # all of timm, torchvision and MONAI; resumes where it stopped
    python benchmarks/zoo.py --record                  # the same models: how many parameters have a law
    python benchmarks/zoo.py --capture --only timm:vit # names that contain this
    python benchmarks/zoo.py --table                   # the tables of what has run

Each model is built without memory for its parameters; it is captured in training mode. Results are appended to a JSON-lines
file, one line a model, so that a run can be stopped and taken up again at any time.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from stepzero.network import capture, import_torchvision, load_model, recording

RESULTS = Path(__file__).parent / "results"
MONAI: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "AHNet": ({"spatial_dims": 2}, (2, 1, 128, 128)),
    "AttentionUnet": ({"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": (8, 16, 32), "strides": (2, 2)}, (2, 1, 32, 32, 32)),
    "AutoEncoder": ({"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": (8, 16), "strides": (2, 2)}, (2, 1, 32, 32)),
    "BasicUNet": ({}, (2, 1, 32, 32, 32)),
    "BasicUNetPlusPlus": ({}, (2, 1, 32, 32, 32)),
    "DenseNet121": ({"spatial_dims": 3, "in_channels": 1, "out_channels": 2}, (2, 1, 64, 64, 64)),
    "DiNTS": ({"dints_space": None}, (2, 1, 32, 32, 32)),
    "DynUNet": ({"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}, (2, 1, 32, 32, 32)),
    "EfficientNetBN": ({"model_name": "efficientnet-b0", "pretrained": False}, (2, 3, 64, 64)),
    "FlexibleUNet": ({"in_channels": 3, "out_channels": 2, "backbone": "efficientnet-b0"}, (2, 3, 64, 64)),
    "HighResNet": ({"spatial_dims": 3}, (2, 1, 32, 32, 32)),
    "ResNet": ({"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [8, 16, 32, 64], "n_input_channels": 1}, (2, 1, 32, 32, 32)),
    "SEResNet50": ({"spatial_dims": 2, "in_channels": 3}, (2, 3, 64, 64)),
    "SegResNet": ({}, (2, 1, 32, 32, 32)),
    "SegResNetDS": ({}, (2, 1, 64, 64, 64)),
    "SegResNetVAE": ({"input_image_size": (32, 32, 32)}, (2, 1, 32, 32, 32)),
    "SENet154": ({"spatial_dims": 2, "in_channels": 3}, (2, 3, 64, 64)),
    "SwinUNETR": ({"in_channels": 1, "out_channels": 2}, (2, 1, 64, 64, 64)),
    "TorchVisionFCModel": ({"model_name": "resnet18"}, (2, 3, 224, 224)),
    "TransChex": (None, ()),
    "UNet": ({"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": (8, 16, 32), "strides": (2, 2), "num_res_units": 2}, (2, 1, 32, 32, 32)),
    "UNETR": ({"in_channels": 1, "out_channels": 2, "img_size": (64, 64, 64)}, (2, 1, 64, 64, 64)),
    "UltrasoundNet": (None, ()),
    "ViT": ({"in_channels": 1, "img_size": (32, 32, 32), "patch_size": (16, 16, 16), "classification": True}, (2, 1, 32, 32, 32)),
    "ViTAutoEnc": ({"in_channels": 1, "img_size": (32, 32, 32), "patch_size": (16, 16, 16)}, (2, 1, 32, 32, 32)),
    "VNet": ({}, (2, 1, 32, 32, 32)),
    "VQVAE": ({"spatial_dims": 2, "in_channels": 1, "out_channels": 1}, (2, 1, 32, 32)),
    "AutoencoderKL": ({"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": (32, 64), "num_res_blocks": (1, 1), "attention_levels": (False, True), "latent_channels": 4}, (2, 1, 32, 32)),
    "Generator": ({"latent_shape": (8,), "start_shape": (8, 4, 4), "channels": (8, 4), "strides": (2, 2)}, (2, 8)),
    "Discriminator": ({"in_shape": (1, 32, 32), "channels": (8, 16), "strides": (2, 2)}, (2, 1, 32, 32)),
    "FullyConnectedNet": ({"in_channels": 8, "out_channels": 2, "hidden_channels": [16, 16]}, (2, 8)),
    "PatchDiscriminator": ({"spatial_dims": 2, "channels": 8, "in_channels": 1}, (2, 1, 64, 64)),
}  # fmt: skip
MONAI = {name: entry for name, entry in MONAI.items() if entry[0] is not None and name != "DiNTS"}
SIZES = dict.fromkeys(("inception_v3", "quantized_inception_v3"), (2, 3, 299, 299))  # of torchvision; others take 224


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


def names() -> Iterator[str]:
    """Yield every model of the three libraries."""
    models = import_torchvision().models
    import timm

    yield from (f"torchvision:{name}" for name in models.list_models())
    yield from (f"monai:{name}" for name in MONAI)
    yield from (f"timm:{name}" for name in timm.list_models())


def example(name: str, model: torch.nn.Module) -> Any:
    """Return inputs of the size that a model asks for."""
    library, _, short = name.partition(":")
    if library == "monai":
        return MONAI[short][1]
    if library == "timm":
        return (2, *model.pretrained_cfg.get("input_size", (3, 224, 224)))
    kind = type(model).__module__.rpartition("torchvision.models.")[2].split(".")[0]
    if kind == "detection":
        return {"args": ([torch.zeros(3, 224, 224), torch.zeros(3, 224, 224)],)}
    if kind == "video":
        return (2, 3, 16, 224, 224)
    if kind == "optical_flow":
        return [(2, 3, 128, 128), (2, 3, 128, 128)]
    return SIZES.get(short, (2, 3, 224, 224))


def build(name: str, *, record: bool = False) -> torch.nn.Module:
    """Return a model without memory for its parameters."""
    if not name.startswith("monai:"):
        return load_model(name, record=record)
    short = name.partition(":")[2]
    return load_model(f"monai.networks.nets:{short}", MONAI[short][0], record=record)


def measure(name: str) -> Row:
    """Build and capture one model; detection runs in eval mode, since training asks for boxes."""
    try:
        model = build(name)
        inputs = example(name, model)
        start = time.process_time()
        graph = capture(model, inputs, training=not isinstance(inputs, dict))
    except Exception as error:
        return Row(name, ok=False, message=f"{type(error).__name__}: {error}"[:300])
    seconds, parameters = time.process_time() - start, len(graph.parameters)
    return Row(name, True, graph.rung, round(seconds, 3), len(graph.nodes), parameters, len(graph.unused), len(graph.dead),
               len(graph.assumed), "; ".join(graph.assumed)[:200])  # fmt: skip


def measure_record(name: str) -> Row:
    """Build one model and count the parameters whose law could not be read (`unused`)."""
    start = time.process_time()
    try:
        found = recording(build(name, record=True))
    except Exception as error:
        return Row(name, ok=False, message=f"{type(error).__name__}: {error}"[:300])
    assert found is not None
    unread = {key: reason for key, reason in found.unread().items() if found[key].parameter}
    parameters, message = sum(origin.parameter for origin in found.values()), "; ".join(dict.fromkeys(unread.values()))
    return Row(name, True, found.rung, round(time.process_time() - start, 3), len(found), parameters, len(unread),
               assumed=len(found.assumed), message=message[:300])  # fmt: skip


def run(kind: str, only: str) -> None:
    """Measure what has not been measured yet."""
    RESULTS.mkdir(exist_ok=True)
    done = {row.model for row in rows(kind)}
    todo = [name for name in names() if only in name and name not in done]
    with (RESULTS / f"zoo_{kind}.jsonl").open("a", encoding="utf-8") as out:
        for place, name in enumerate(todo):
            row = MEASURES[kind](name)
            out.write(json.dumps(asdict(row)) + "\n")
            out.flush()
            if not row.ok or place % 50 == 0:
                print(f"{place + 1}/{len(todo)} {name} {row.message if not row.ok else row.rung}", flush=True)


def rows(kind: str) -> list[Row]:
    """Return what has been measured."""
    path = RESULTS / f"zoo_{kind}.jsonl"
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def record_table() -> str:
    """Return how much of each library's own init is known, and every model of which something is not."""
    found = rows("record")
    lines = [
        "| library | models | built | on meta | parameters | law or value known | s median | s max |",
        "|--" * 8 + "|",
    ]
    for library in sorted({row.model.partition(":")[0] for row in found}):
        own = [row for row in found if row.model.startswith(library + ":")]
        good = [row for row in own if row.ok]
        total, unread = sum(row.parameters for row in good), sum(row.unused for row in good)
        times = [row.seconds for row in good]
        lines.append(
            f"| {library} | {len(own)} | {len(good)} | {sum(row.rung == 'meta' for row in good)} | {total} | "
            f"{100 * (1 - unread / total):.3f} % | {statistics.median(times):.2f} | {max(times):.2f} |"
        )
    odd = [row for row in found if not row.ok or row.unused or row.rung != "meta"]
    return "\n".join([*lines, "", *(f"- {row.model}: {row.unused} of {row.parameters}. {row.message}" for row in odd)])


def capture_table() -> str:
    """Return the results as Markdown: one line a library, then every model that failed or left meta."""
    found = rows("capture")
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


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    kinds = [kind for kind in TABLES if getattr(options, kind)]
    for kind in kinds:
        run(kind, options.only)
    for kind in kinds or TABLES:
        print(f"{kind}\n\n{TABLES[kind]()}\n")
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


MEASURES = {"capture": measure, "record": measure_record}
TABLES = {"capture": capture_table, "record": record_table}

if __name__ == "__main__":
    main()
