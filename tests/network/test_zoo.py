"""The recorded graph of many architectures, run on their real weights, gives what the model gives."""

import runpy
from pathlib import Path

import pytest
import torch

from stepzero.network import Graph, capture, leaves, real_inputs, replay, tensors_in

SMALL = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "small_models.py"))["SMALL"]

# Read a number of an activation in control flow, and are run on real tensors instead; all others run on meta.
ON_REAL_TENSORS: set[str] = set()


def test_there_are_enough_architectures_of_each_library():
    libraries = [name.partition(":")[0] for name in SMALL]
    assert len(SMALL) >= 90
    assert min(libraries.count(library) for library in set(libraries)) >= 4


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("name", SMALL)
def test_replayed_graph_gives_the_outputs_of_the_model(name):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    make, inputs = SMALL[name]
    model, inputs = make(), real_inputs(inputs)
    for training in (False, True):
        model.train(training)
        graph = capture(model, inputs)
        assert graph.rung == ("real" if name in ON_REAL_TENSORS else "meta")
        compare(graph, model, inputs)


@torch.no_grad()
def compare(graph: Graph, model, inputs):
    real = {value: tensor.clone() for value, tensor in leaves(graph, model, inputs).items()}
    torch.manual_seed(0)
    want = tensors_in(model(*inputs.args, **inputs.kwargs))
    torch.manual_seed(0)
    got = replay(graph, real)
    for mine, own in zip(got, want, strict=True):
        torch.testing.assert_close(mine, own, rtol=1e-5, atol=1e-5 * float(own.abs().max()) if own.numel() else 0.0)
