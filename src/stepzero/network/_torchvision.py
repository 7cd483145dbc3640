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
    _libraries.append(library)
    return importlib.import_module("torchvision")
