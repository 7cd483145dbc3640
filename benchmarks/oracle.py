"""Predictions against exact infinite-width kernels of small convolutional nets.

    python -m venv /tmp/oracle && /tmp/oracle/bin/pip install -r benchmarks/oracle-requirements.txt
    /tmp/oracle/bin/python benchmarks/oracle.py make     # the kernels, by neural-tangents, into tests/moments/oracle.json
    python benchmarks/oracle.py compare                  # predictions against them, value by value

neural-tangents computes the covariance of every pair of places and inputs, without a restriction to summary moments (Novak et al. 2019,
arXiv:1810.05148; Novak et al. 2020, arXiv:1912.02803). Inputs have the Gram matrix that the summary describes: 1 for a pixel with itself, ELSEWHERE
for another place, ACROSS for another input, APART for both; so what differs comes from the rules.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KERNELS = Path(__file__).parents[1] / "tests" / "moments" / "oracle.json"
INPUTS, ELSEWHERE, ACROSS, APART = 2, 0.3, 0.2, 0.1

Layer = list[Any]
# conv: kernel, stride, padding, W² · fan_in, b²; widths do not matter at infinite width
NETS: dict[str, dict[str, Any]] = {
    "zero padding, 12 layers": {"size": 8, "layers": [["conv", 3, 1, "zeros", 2.0, 0.0], ["relu"]] * 12},
    "circular, 8 layers, biases": {"size": 6, "layers": [["conv", 3, 1, "circular", 1.5, 0.1], ["relu"]] * 8},
    "no padding, kernels of 3, 1 and 2": {
        "size": 8,
        "layers": [
            ["conv", 3, 1, "valid", 2.0, 0.0], ["relu"], ["conv", 1, 1, "valid", 2.0, 0.05], ["relu"],
            ["conv", 2, 1, "valid", 2.0, 0.0], ["relu"], ["conv", 3, 1, "valid", 1.0, 0.0],
        ],
    },
    "strides": {"size": 9, "layers": [["conv", 3, 2, "zeros", 2.0, 0.0], ["relu"]] * 3},
    "erf": {"size": 8, "layers": [["conv", 3, 1, "zeros", 1.8, 0.05], ["erf"]] * 6},
    "gelu": {"size": 8, "layers": [["conv", 3, 1, "zeros", 2.2, 0.0], ["gelu"]] * 4},
    "abs": {"size": 6, "layers": [["conv", 3, 1, "circular", 1.0, 0.0], ["abs"]] * 5},
    "residual, pre-activation": {
        "size": 8,
        "layers": [["conv", 3, 1, "zeros", 1.0, 0.0]]
        + [["residual", [["relu"], ["conv", 3, 1, "zeros", 2.0, 0.0], ["relu"], ["conv", 3, 1, "zeros", 1.0, 0.0]]]] * 4,
    },
    "average pooling": {
        "size": 8,
        "layers": [
            ["conv", 3, 1, "circular", 2.0, 0.0], ["relu"], ["avg_pool", 2], ["conv", 3, 1, "circular", 2.0, 0.0], ["relu"],
            ["avg_pool", 2], ["conv", 1, 1, "valid", 2.0, 0.0],
        ],
    },
    "global average after one layer": {
        "size": 8, "layers": [["conv", 3, 1, "circular", 2.0, 0.0], ["relu"], ["global_mean"], ["dense", 2.0, 0.0]],
    },
    "global average after five layers": {
        "size": 8, "layers": [["conv", 3, 1, "circular", 2.0, 0.0], ["relu"]] * 5 + [["global_mean"], ["dense", 2.0, 0.0]],
    },
    "global average, zero padding": {
        "size": 8, "layers": [["conv", 3, 1, "zeros", 2.0, 0.0], ["relu"]] * 4 + [["global_mean"], ["dense", 1.0, 0.0]],
    },
    "flatten and dense": {
        "size": 6,
        "layers": [["conv", 3, 2, "valid", 2.0, 0.0], ["relu"], ["flatten"], ["dense", 2.0, 0.1], ["relu"], ["dense", 1.0, 0.0]],
    },
}  # fmt: skip


def gram(places: int) -> NDArray[np.float64]:
    """Return the Gram matrix of all (input, place) pairs."""
    same_input = np.kron(np.eye(INPUTS), np.ones((places, places)))
    same_place = np.kron(np.ones((INPUTS, INPUTS)), np.eye(places))
    both = same_input * same_place
    one = np.ones_like(both)
    return (
        both
        + ELSEWHERE * (same_input - both)
        + ACROSS * (same_place - both)
        + APART * (one - same_input - same_place + both)
    )


def pixels(size: int) -> NDArray[np.float64]:
    """Return inputs (input, height, width, channel) with that Gram matrix, per channel."""
    matrix = gram(size * size)
    root = np.linalg.cholesky(matrix) * np.sqrt(matrix.shape[0])
    return root.reshape(INPUTS, size, size, -1)


# neural-tangents


def make() -> None:
    """Compute the kernels of all nets and store them."""
    import jax
    import neural_tangents
    from neural_tangents import stax

    jax.config.update("jax_enable_x64", True)
    nets = {}
    for name, net in NETS.items():
        x = pixels(net["size"])
        values = []
        for end in range(1, len(net["layers"]) + 1):
            *_, kernel = stax.serial(*(exact(stax, layer) for layer in net["layers"][:end]))
            values.append(summary(np.asarray(kernel(x, None, "nngp"))))
        nets[name] = {**net, "values": values}
    recipe = {
        "command": "python benchmarks/oracle.py make",
        "neural-tangents": neural_tangents.__version__,
        "jax": jax.__version__,
        "inputs": {"elsewhere": ELSEWHERE, "across": ACROSS, "apart": APART},
        "values": "[E[y²], E[y y'] of the same place and another input] behind each layer, averaged over places",
    }
    KERNELS.write_text(json.dumps({"recipe": recipe, "nets": nets}, indent=1) + "\n", encoding="utf-8")
    print(f"{len(nets)} nets, {sum(len(n['values']) for n in nets.values())} layers into {KERNELS}")


def exact(stax: Any, layer: Layer) -> Any:
    """Return a layer of neural-tangents."""
    kind, *settings = layer
    if kind == "conv":
        kernel, stride, padding, weight, bias = settings
        border = {"zeros": "SAME", "circular": "CIRCULAR", "valid": "VALID"}[padding]
        return stax.Conv(1, (kernel, kernel), (stride, stride), border, W_std=weight**0.5, b_std=bias**0.5)
    if kind == "dense":
        weight, bias = settings
        return stax.Dense(1, W_std=weight**0.5, b_std=bias**0.5)
    if kind == "residual":
        branch = stax.serial(*(exact(stax, inner) for inner in settings[0]))
        return stax.serial(stax.FanOut(2), stax.parallel(stax.Identity(), branch), stax.FanInSum())
    if kind == "avg_pool":
        return stax.AvgPool((settings[0],) * 2, (settings[0],) * 2)
    plain = {
        "relu": stax.Relu,
        "erf": stax.Erf,
        "gelu": stax.Gelu,
        "abs": stax.Abs,
        "flatten": stax.Flatten,
        "global_mean": stax.GlobalAvgPool,
    }
    return plain[kind]()


def summary(kernel: NDArray[np.float64]) -> list[float]:
    """Return the average over places of E[y²] and of E[y y'] for the same place of another input."""
    if kernel.ndim == 6:  # input, input, row, row, column, column
        kernel = np.einsum("nmhhww->nmhw", kernel)
    kernel = kernel.reshape(INPUTS, INPUTS, -1).mean(-1)
    return [float(np.diagonal(kernel).mean()), float(kernel[0, 1])]


# stepzero


def predict(net: dict[str, Any]) -> list[list[float]]:
    """Return the same values as stepzero predicts them."""
    import torch

    from stepzero.moments import Moments, propagate
    from stepzero.network import capture

    size = net["size"]
    channels = INPUTS * size * size
    model, laws = torch_net(net["layers"], channels, size)
    graph = capture(model, (INPUTS, channels, size, size))
    given = (torch.full((1, 1, 1, 1), v, dtype=torch.float64) for v in (0.0, 1.0, ELSEWHERE, ELSEWHERE, ACROSS, APART))
    zero = torch.zeros((), dtype=torch.float64)
    parameters = {name: (zero, zero + second) for name, second in laws.items()}
    flow = propagate(graph, {next(iter(graph.inputs)): Moments(*given)}, parameters, on_unknown="error")
    signals = [flow.signals[v] for v in graph.outputs]
    return [[s.average(s.second), s.average(s.across)] for s in signals]


def torch_net(layers: list[Layer], channels: int, size: int) -> tuple[Any, dict[str, float]]:
    """Return a torch module that puts out what is behind each layer, and the variance of each of its parameters."""
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.made = nn.ModuleList(modules)

        def forward(self, x: Any) -> Any:
            found = []
            for module in self.made:
                x = module(x)
                found.append(x)
            return tuple(found)

    build = Builder(channels, size)
    modules = [build.layer(layer) for layer in layers]
    net = Net()
    names = {id(p): name for name, p in net.named_parameters()}
    return net, {names[id(p)]: variance for p, variance in build.variances}


class Builder:
    """Makes torch modules one after the other, and knows how wide and how large their outputs are."""

    width = 16  # of the torch net: predictions do not depend on it

    def __init__(self, channels: int, size: int) -> None:
        self.channels, self.size = channels, size
        self.variances: list[tuple[Any, float]] = []

    def layer(self, layer: Layer) -> Any:
        """Return the module of one layer."""
        import torch
        from torch import nn

        kind, *settings = layer
        if kind == "conv":
            return self.conv(*settings)
        if kind == "dense":
            return self.weighted(nn.Linear(self.channels, self.width), self.channels, *settings)
        if kind == "residual":
            return Sum(nn.Sequential(*(self.layer(inner) for inner in settings[0])))
        if kind == "flatten":
            self.channels, self.size = self.channels * self.size**2, 1
            return nn.Flatten()
        if kind == "avg_pool":
            self.size //= settings[0]
            return nn.AvgPool2d(settings[0])
        functions = {"relu": torch.relu, "erf": torch.erf, "abs": torch.abs, "gelu": nn.functional.gelu}
        return Function(functions[kind]) if kind in functions else Function(lambda x: x.mean((2, 3)))

    def conv(self, kernel: int, stride: int, padding: str, weight: float, bias: float) -> Any:
        """Return a convolution."""
        from torch import nn

        mode = "circular" if padding == "circular" else "zeros"
        border = 0 if padding == "valid" else kernel // 2
        made = nn.Conv2d(self.channels, self.width, kernel, stride, border, padding_mode=mode)
        self.size = (self.size + 2 * border - kernel) // stride + 1
        return self.weighted(made, self.channels * kernel**2, weight, bias)

    def weighted(self, module: Any, fan: int, weight: float, bias: float) -> Any:
        """Note the variances of a module's parameters."""
        self.variances += [(module.weight, weight / fan), (module.bias, bias)]
        self.channels = self.width
        return module


def compare() -> None:
    """Print how far predictions are from the kernels, net by net."""
    nets = json.loads(KERNELS.read_text(encoding="utf-8"))["nets"]
    print(f"{'net':36} layers  worst of E[y²]  worst of E[y y']")
    for name, net in nets.items():
        errors = np.abs(np.array(predict(net)) / np.array(net["values"]) - 1).max(axis=0)
        print(f"{name:36} {len(net['layers']):6d}  {errors[0]:14.2e}  {errors[1]:16.2e}")


def main() -> None:
    """Make the kernels, or compare with them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "compare"))
    {"make": make, "compare": compare}[parser.parse_args().what]()


try:
    from torch import nn
except ModuleNotFoundError:  # in the environment of neural-tangents
    pass
else:

    class Sum(nn.Module):
        """x + branch(x)."""

        def __init__(self, branch: nn.Module) -> None:
            super().__init__()
            self.branch = branch

        def forward(self, x: Any) -> Any:
            """Return the sum."""
            return x + self.branch(x)

    class Function(nn.Module):
        """A function as a module."""

        def __init__(self, function: Any) -> None:
            super().__init__()
            self.function = function

        def forward(self, x: Any) -> Any:
            """Apply it."""
            return self.function(x)


if __name__ == "__main__":
    main()
