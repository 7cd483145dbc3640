"""What capture does when a forward pass does not run on meta: climb to the next way of running it, and say why."""

from __future__ import annotations

import weakref
from textwrap import shorten

import torch
from torch import nn

from stepzero.errors import CaptureError, InputError, StepZeroError
from stepzero.network._attempt import Attempt, Rung
from stepzero.network._border import NeedsNumbersError
from stepzero.network._constructing import line_of
from stepzero.network._graph import Graph
from stepzero.network._hints import advice, without_batch
from stepzero.network._inputs import ModelInputs

META = Rung("meta", on_meta=True, below=True)
META_AUTOGRAD = Rung("meta+autograd", on_meta=True, below=False)  # the model calls autograd inside
REAL = Rung("real", on_meta=False, below=True)  # control flow reads activations
REAL_AUTOGRAD = Rung("real+autograd", on_meta=False, below=False)

LIMIT = 4 * 2**30  # bytes of parameters and buffers that a run on real tensors may allocate


def climb(model: nn.Module, call: ModelInputs, training: bool | None, made: Made) -> Graph:
    """Return the graph from the first rung on which the forward pass runs.

    Args:
        model: The user's model.
        call: Its inputs.
        training: The mode, or None for the model's own.
        made: Takes weak references to everything that ops made on meta.

    Raises:
        InputError: if the model refuses the inputs on real tensors too.
        CaptureError: if an op has no kernel here, or the model is too large for a run on real tensors, and nothing was read
            of it before it failed.
    """
    first, graph = _try(META, META_AUTOGRAD, model, call, training, made)
    if graph is not None:
        return graph
    needed = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    if needed > LIMIT:
        if isinstance(first.error, NeedsNumbersError) and _has_read_weights(first.attempt.graph):
            return _cut_short(first, needed)
        raise CaptureError(_too_large(first, needed)) from first.error
    second, graph = _try(REAL, REAL_AUTOGRAD, model, call, training, made)
    if graph is None:
        kind = CaptureError if isinstance(second.error, NotImplementedError) else InputError
        raise kind(_refused(second, model, call)) from second.error
    graph.assumed = (
        *graph.assumed,
        f"ran on real tensors, since meta failed at {first.attempt.where()}: {_words(first.error)}{_read(first.error)}",
    )
    return graph


Made = list[weakref.ref[torch.Tensor]]


class Failure:
    """An attempt that raised, and what."""

    def __init__(self, attempt: Attempt, error: Exception) -> None:
        self.attempt, self.error = attempt, error


def _try(
    rung: Rung, with_autograd: Rung, model: nn.Module, call: ModelInputs, training: bool | None, made: Made
) -> tuple[Failure, Graph | None]:
    """Run below autograd, then with it if the model seems to call it."""
    failures: list[Failure] = []
    for choice in (rung, with_autograd):
        attempt = Attempt(choice)
        try:
            return failures[0] if failures else Failure(attempt, Exception()), attempt.run(model, call, training)
        except CaptureError as error:
            raise CaptureError(f"at {attempt.where()}: {error}") from None
        except StepZeroError:
            raise
        except Exception as error:
            failures.append(Failure(attempt, error))
            if not _asks_for_autograd(error):
                break
        finally:
            made += attempt.recorder.release()
    return failures[0], None


def _has_read_weights(graph: Graph) -> bool:
    return any(graph.values[v].kind == "parameter" for node in graph.nodes for v in node.inputs)


def _cut_short(failure: Failure, needed: int) -> Graph:
    """Return the graph up to the place where control flow reads an activation of a model too large to be run for real."""
    graph = failure.attempt.cut_short()
    graph.rung = "meta, cut short"
    stop = (
        f"stopped at {failure.attempt.where()}: {_words(failure.error)}; with {needed / 2**30:.0f} GiB of weights the model is too "
        "large to be run for real, so what comes after that place was not read"
    )
    graph.assumed = (*graph.assumed, stop)
    return graph


def _asks_for_autograd(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and "grad" in str(error)


def _too_large(failure: Failure, needed: int) -> str:
    return (
        f"the forward pass does not run on meta: at {failure.attempt.where()}: {_words(failure.error)}. With "
        f"{needed / 2**30:.0f} GiB of weights it is too large to be run for real. Check the inputs "
        "first; if they fit, capture a smaller configuration of the same model, or switch that branch off."
    )


def _refused(failure: Failure, model: nn.Module, call: ModelInputs) -> str:
    recorder, line = failure.attempt.recorder, line_of(failure.error)
    shapes = [tuple(tensor.shape) for tensor in call.named(model.forward).values()]
    return (
        f"the forward pass failed at {failure.attempt.where()}: {_words(failure.error).rstrip('.')}{line and f' ({line})'}. "
        f"The inputs were {call.describe(model.forward)}. "
        f"{advice(failure.error, recorder.failed, recorder.taken)}{without_batch(model, shapes)}"
    )


def _read(error: Exception) -> str:
    """Say what follows for the plan where control flow reads an activation."""
    told = "; what was recorded is the path that these inputs take with random weights"
    return told if isinstance(error, NeedsNumbersError) else ""


def _words(error: Exception) -> str:
    """Return the first line of an error, with its type."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {shorten(text[0], 200)}" if text else type(error).__name__
