"""Where signals begin: inputs as measured, as given or white; parameters by the moments of their laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stepzero.errors import InputError
from stepzero.moments import _roles as R
from stepzero.moments._probe import neighbours
from stepzero.moments._signal import Knob, Moments, Signal, ranked
from stepzero.moments._weights import OPERATORS
from stepzero.network import Graph, Node, Value

LARGEST_TABLE = 1 << 18  # elements of a kept table that is followed number by number
MOST_HEADS = 256  # of a kept vector that is


def input_signal(value: Value, given: Signal | Moments | Tensor | None, *, channel_last: bool = False) -> Signal:
    """Return an input's signal: measured from its numbers, as given by moments or signal, or white N(0, 1)."""
    if isinstance(given, Signal):
        return given
    roles = R.guess(value.shape, channel_last=channel_last)
    one = (1,) * len(value.shape)
    if isinstance(given, Moments):
        return Signal(value.shape, roles, given)
    if given is None:
        mean, unit = torch.zeros(one, dtype=torch.float64), torch.ones(one, dtype=torch.float64)
        return Signal(value.shape, roles, Moments(mean, unit, mean, mean, mean, mean))
    if given.is_complex():
        parts = [measure(part.to(torch.float64), roles) for part in (given.real, given.imag)]
        return Signal(
            value.shape, roles, Moments(parts[0].mean, *(a + b for a, b in zip(*(p[1:] for p in parts), strict=True)))
        )
    x = given.detach().to(torch.float64)
    if not bool(torch.isfinite(x).all()):
        raise InputError(f"input {'/'.join(value.names)} has values that are not finite; pass a clean batch")
    return Signal(value.shape, roles, measure(x, roles))


def measure(x: Tensor, roles: R.Roles) -> Moments:
    """Measure the six moments of a batch, averaged over channels, places and inputs (lean: all axes of size 1)."""
    one = (1,) * x.dim()
    places, inputs = R.axes(roles, "position"), R.axes(roles, "batch")
    p, b = R.count(roles, "position"), R.count(roles, "batch")
    mean, second = x.mean(), x.square().mean()
    own = _square_of_sum(x, places) / p  # q + (p-1) e
    over = _square_of_sum(x, inputs) / b  # q + (b-1) a
    both = _square_of_sum(x, [*places, *inputs]) / (p * b)
    elsewhere = (own - second) / (p - 1) if p > 1 else second
    across = (over - second) / (b - 1) if b > 1 else mean**2
    rest = both - second - (p - 1) * elsewhere - (b - 1) * across
    apart = rest / ((p - 1) * (b - 1)) if p > 1 and b > 1 else (across if p == 1 else mean**2)
    near = neighbours([x], places, elsewhere.reshape(one))
    return Moments(*(t.reshape(one) for t in (mean, second, near, elsewhere, across, apart)))


def _square_of_sum(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Mean over the other axes of (Σx)²."""
    return (x.sum(dim=tuple(dims), keepdim=True) if dims else x).square().mean()


def parameter_signal(value: Value, mean: Tensor, second: Tensor, *, isometric: bool = False) -> Signal:
    """Return a parameter's signal: independent elements, or given numbers, the same for every input."""
    mean, second = ranked(mean, len(value.shape)), ranked(second, len(value.shape))
    roles = R.same(value.shape, "copy")
    if mean.dim() > 1 and mean.shape[-2] > 1 and torch.equal(second, mean**2):
        near, others = _of_rows(mean)
    else:
        near = others = mean**2
    moments = Moments(mean, second, near, others, second, others)
    return Signal(value.shape, roles, moments, knob=Knob(value.names[0]), isometric=isometric)


def kept_moments(values: Tensor, uses: Sequence[Node]) -> tuple[Tensor, Tensor]:
    """Return mean and second moment of a parameter that keeps its values: averages, or each number where these matter.

    They do in a table of positions, whose rows have something in common, and in what sets a pace for each head of a
    state-space model (Δ and A of Mamba-2, which multiply in an exponent: heads of large steps forget the fastest).

    Args:
        values: The parameter.
        uses: Where it is used; a table is looked up, or added, a pace is added or exponentiated.
    """
    values = values.detach().double()
    if all(node.op in ("add", "embedding") for node in uses) and _patterned(values):
        return values, values.square()
    if all(node.op in ("add", "exp") for node in uses) and _paces(values):
        return values, values.square()
    return values.mean(), values.square().mean()


def _paces(values: Tensor) -> bool:
    """Say whether a few numbers, one for each head, differ."""
    return values.dim() == 1 and 1 < values.numel() <= MOST_HEADS and bool((values != values[0]).any())


def _patterned(table: Tensor) -> bool:
    """Say whether the rows of a table have something in common, as sinusoids have."""
    if table.dim() < 2 or table.shape[-2] < 2 or table.numel() > LARGEST_TABLE:
        return False
    rows, square = table.shape[-2], table.square().mean()
    shared = (table.sum(-2).square().mean() / rows - square) / (rows - 1)  # of two different rows
    return bool((shared - table.mean() ** 2).abs() > 0.05 * square)


def _of_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Products of a table's elements with those of the next row, and of all other rows on average."""
    n = x.shape[-2]
    beside = torch.cat([x.narrow(-2, 1, n - 1), x.narrow(-2, n - 2, 1)], dim=-2)
    return x * beside, x * (x.sum(-2, keepdim=True) - x) / (n - 1)


_LAST = (
    "linear layer_norm addmm rms_norm lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell "
    "_pack_padded_sequence"
)
FEATURES_LAST = frozenset(_LAST.split())
FEATURES_FIRST = frozenset({*OPERATORS, "batch_norm", "group_norm", "instance_norm"}) - FEATURES_LAST


def channel_last_inputs(graph: Graph) -> set[int]:
    """Inputs of rank ≥ 3 whose first computing op works along the last axis (linear, layer norm)."""
    uses = graph.uses()
    return {v for v in graph.inputs.values() if _first_op(graph, uses, v) in FEATURES_LAST}


def _first_op(graph: Graph, uses: Mapping[int, list[Node]], value: int) -> str:
    """The first op downstream that says where the features are; values of another rank are not followed, but for single steps."""
    queue, seen, rank = [value], {value}, len(graph.values[value].shape)
    while queue:
        for node in uses[queue.pop(0)]:
            if node.op in FEATURES_LAST or node.op in FEATURES_FIRST:
                return node.op
            stepped = node.op in ("select", "unbind") and rank == 3 and node.arguments.get("dim") not in (2, -1)
            fresh = [o for o in node.outputs if o not in seen and (len(graph.values[o].shape) == rank or stepped)]
            seen.update(fresh)
            queue.extend(fresh)
    return ""
