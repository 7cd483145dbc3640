"""Import torchvision also where its compiled operators do not match the installed torch."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

from stepzero.errors import ModelError

# What torchvision registers shape functions for on import; without its compiled library nobody has declared them.
DECLARATIONS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []  # a declaration lives as long as its library


def import_torchvision() -> ModuleType:
    """Return torchvision; its architectures need none of its compiled operators.

    Raises:
        ModelError: if it is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        raise ModelError("torchvision is not installed. Run: pip install torchvision") from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error) or _libraries:
            raise
        return _import_with_declarations()


def _import_with_declarations() -> ModuleType:
    library = torch.library.Library("torchvision", "DEF")
    for declaration in DECLARATIONS:
        library.define(declaration)
    library.impl("nms", _nms, "CPU")
    _libraries.append(library)
    torchvision = importlib.import_module("torchvision")
    # Detection asks for two: nms is there now, and roi_align has a form in Python that it only takes on some devices.
    vars(importlib.import_module("torchvision.ops.boxes"))["_assert_has_ops"] = lambda: None
    vars(importlib.import_module("torchvision.ops.roi_align"))["is_compile_supported"] = lambda device: True
    return torchvision


def _nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Return the boxes that no better one overlaps by more than the threshold, best first."""
    order = scores.argsort(descending=True, stable=True)
    x1, y1, x2, y2 = dets[order].unbind(1)
    area = (x2 - x1) * (y2 - y1)
    kept, alive = [], torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if not alive[i]:
            continue
        kept.append(i)
        width = (torch.minimum(x2, x2[i]) - torch.maximum(x1, x1[i])).clamp_min(0)
        overlap = width * (torch.minimum(y2, y2[i]) - torch.maximum(y1, y1[i])).clamp_min(0)
        alive &= ~(overlap / (area + area[i] - overlap) > iou_threshold)
    return order[kept]
