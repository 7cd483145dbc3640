"""One forward pass as a graph, without the model's weights."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn

from stepzero.network._calm import clear_caches_holding_meta, eager_switches, random_state_kept
from stepzero.network._checks import check_call, check_model
from stepzero.network._graph import Graph
from stepzero.network._inputs import ModelInputs
from stepzero.network._ladder import climb


def capture(model: nn.Module, inputs: Any, *, training: bool | None = None) -> Graph:
    """Return the graph of one forward pass of `model`.

    The pass runs on meta tensors and on a copy of the model: no weight is read, copied or allocated. A model whose
    control flow reads activations is run once on real tensors instead (`graph.rung` says so). The model, its
    buffers, its mode and the global random state stay as they are.

    Args:
        model: Any eager model, on any device, meta included.
        inputs: A tensor, a tuple of tensors, a shape, a list of shapes, a text form, or
            `{"args": ..., "kwargs": ...}`; see `ModelInputs.of`.
        training: The mode to capture in; None keeps the model's own.

    Raises:
        InputError: if the inputs do not describe a call that the model accepts.
        ModelError: if the model cannot be read: not a module, or lazily shaped.
        CaptureError: if the forward pass cannot be recorded.

    Examples:
        >>> graph = capture(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), (1, 3))
        >>> [(node.module, node.op) for node in graph.nodes]
        [('0', 'linear'), ('1', 'relu')]
    """
    check_model(model)
    call = ModelInputs.of(inputs, model)
    check_call(model, call)
    with eager_switches(), random_state_kept():
        made: list[weakref.ref[torch.Tensor]] = []
        try:
            return climb(model, call, training, made)
        finally:
            clear_caches_holding_meta(made)
