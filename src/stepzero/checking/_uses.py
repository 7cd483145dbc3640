"""How each weight is used: its true fans, what torch.nn.init reads instead, the activation before it and the norm behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from torch import nn

from stepzero import theory
from stepzero.errors import StepZeroError
from stepzero.moments import MOVES, Flow, input_argument, weight_argument, weight_name, weight_sites
from stepzero.network import Graph, Node, canonical_name

if TYPE_CHECKING:
    from stepzero.checking._holding import Holding

NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"})
IDLE = MOVES | {"dropout", "feature_dropout", "max_pool1d", "max_pool2d", "max_pool3d", "pad", "constant_pad_nd"}
IDLE_LAYERS = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Flatten, nn.Unflatten, nn.Identity, nn.Upsample,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
)  # fmt: skip
NORM_LAYERS = (
    nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Use:
    """One weight and its surroundings.

    Args:
        name: Canonical name of the parameter.
        kind: The class of its module, or the op.
        fans: The true fans, borders left out.
        seen: fan_in and fan_out as torch.nn.init reads them from the shape alone.
        layer: The module that holds it, where that is of a known kind.
        parts: Independent weights packed into it: 3 for q, k and v, 4 for the gates of an LSTM.
        before: The activation whose output it reads; "" for none, None where that is unknown.
        gain: That activation's gain.
        normalised: Whether everything that reads its output normalises it first; None where that is unknown.
        input_first: The weight is stored [in, out].
    """

    name: str
    kind: str
    fans: theory.Fans
    seen: tuple[float, float]
    layer: nn.Module | None = None
    parts: int = 1
    before: str | None = None
    gain: float = 1.0
    normalised: bool | None = None
    input_first: bool = False

    @property
    def groups(self) -> int:
        """Groups of a convolution."""
        return int(getattr(self.layer, "groups", 1))

    @property
    def transposed(self) -> bool:
        """Whether it is a transposed convolution."""
        return bool(getattr(self.layer, "transposed", False))


def torch_fans(shape: tuple[int, ...]) -> tuple[float, float]:
    """Return fan_in and fan_out as torch.nn.init reads them: axis 1 is in, axis 0 is out, the rest is kernel."""
    taps = prod(shape[2:])
    return float(shape[1] * taps), float(shape[0] * taps)


def uses_of_modules(model: nn.Module) -> dict[str, Use]:
    """Return the use of each weight whose module is of a known kind, with its neighbours where a Sequential tells them."""
    neighbours = _neighbours(model)
    found: dict[str, Use] = {}
    for path, module in model.named_modules():
        for attribute in theory.layer_weights(module):
            name = canonical_name(f"{path}.{attribute}" if path else attribute)
            use = _use(name, module, attribute)
            if use is not None and name not in found:
                before, gain, normalised = neighbours.get(id(module), (None, 1.0, None))
                found[name] = replace(use, before=before, gain=gain, normalised=normalised)
    return found


def _use(name: str, module: nn.Module, attribute: str) -> Use | None:
    try:
        options = theory.read_layer(module, attribute)
        fans = theory.fans(module, weight=attribute)
    except (StepZeroError, AttributeError, TypeError):  # no layer of a known kind
        return None
    shape = tuple(options["shape"])
    first = options.get("layout") == "IO"
    parts = int(options.get("parts", 1))
    return Use(name, type(module).__name__, fans, torch_fans(shape), module, parts, input_first=first)


def _neighbours(model: nn.Module) -> dict[int, tuple[str | None, float, bool | None]]:
    """Return, for each layer of a plain Sequential, the activation before it and whether a norm follows."""
    inside = {id(c) for m in model.modules() if _plain(m) for c in m.children() if _plain(c)}
    found: dict[int, tuple[str | None, float, bool | None]] = {}
    for root in model.modules():
        if _plain(root) and id(root) not in inside:
            chain = [m for m in _flat(root) if not isinstance(m, IDLE_LAYERS)]
            for at, module in enumerate(chain):
                before = chain[at - 1] if at else None
                after = chain[at + 1] if at + 1 < len(chain) else None
                found[id(module)] = (*_activation(before), _norm(after))
    return found


def _plain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _flat(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if _plain(child):
            yield from _flat(child)
        else:
            yield child


def _activation(module: nn.Module | None) -> tuple[str | None, float]:
    """Return an activation's name and gain; ("", 1) for a layer that is none, (None, 1) where nothing is known."""
    if module is None:
        return None, 1.0
    if isinstance(module, NORM_LAYERS) or theory.layer_weights(module):
        return "", 1.0
    try:
        return theory.activation(module).name, theory.gain(module)
    except (StepZeroError, TypeError, ValueError):
        return None, 1.0


def _norm(module: nn.Module | None) -> bool | None:
    if module is None:
        return None
    if isinstance(module, NORM_LAYERS):
        return True
    leaf = not list(module.children())
    return False if leaf else None


def uses_in_graph(graph: Graph, flow: Flow, known: Mapping[str, Use], held: Mapping[str, Holding]) -> dict[str, Use]:
    """Return the uses with their surroundings read from the graph, and those of weights that no module tells."""
    readers = graph.uses()
    found = dict(known)
    for node, x, _ in weight_sites(flow):
        name = weight_name(flow, node)
        if name not in held:
            continue
        use = found.get(name) or _functional(graph, name, node, held[name].shape)
        if use is not None:
            before, gain = _read(graph, x)
            found[name] = replace(use, before=before, gain=gain, normalised=_normalised(graph, readers, node))
    return found


def _functional(graph: Graph, name: str, node: Node, shape: tuple[int, ...]) -> Use | None:
    """Return the use of a weight by a plain matrix product; convolutions without a module stay unknown."""
    if len(shape) != 2 or node.op.startswith("conv"):
        return None
    w = weight_argument(node)
    turned = w is not None and graph.values[w].shape[-2:] != shape  # x @ w.T reads a weight [out, in]
    first = node.op in ("addmm", "mm", "matmul") and not turned
    fans = theory.fans(shape, layout="IO") if first else theory.fans(shape)
    return Use(name, node.op, fans, torch_fans(shape), input_first=first)


def _read(graph: Graph, value: int) -> tuple[str, float]:
    """Walk back from a weight's input to the activation that made it."""
    node = graph.producer(value)
    while node is not None and node.op in IDLE:
        node = graph.producer(node.inputs[0]) if node.inputs else None
    if node is None or node.op in NORMS or input_argument(node) is not None:
        return "", 1.0
    try:
        return node.op, theory.gain(node.op, _setting(node))
    except (StepZeroError, TypeError, ValueError):
        return "", 1.0


def _setting(node: Node) -> Any:
    return node.arguments.get("negative_slope") if node.op == "leaky_relu" else None


def _normalised(graph: Graph, readers: Mapping[int, list[Node]], node: Node) -> bool:
    """Say whether every path from a weight op meets a normalisation before any other op that computes."""
    queue, seen = list(node.outputs), set(node.outputs)
    met = False
    while queue:
        for reader in readers.get(queue.pop(), ()):
            if reader.op in NORMS:
                met = True
            elif reader.op in IDLE:
                fresh = [out for out in reader.outputs if out not in seen]
                seen.update(fresh)
                queue.extend(fresh)
            else:
                return False
    return met
