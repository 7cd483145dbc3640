"""What a captured graph says, and what capture refuses."""

import functools
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.errors import CaptureError, InputError, ModelError
from stepzero.network import Graph, Ref, capture, require_parameters
from stepzero.network import _ladder as ladder


class Of(nn.Module):
    """A module around a function, with one linear layer to use."""

    def __init__(self, function, width=4):
        super().__init__()
        self.fc, self.function = nn.Linear(width, width), function

    def forward(self, x):
        return self.function(self, x)


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


WHOLE = {
    "linear": lambda m, x: F.linear(x, m.fc.weight, m.fc.bias),
    "matmul": lambda m, x: x @ m.fc.weight,
    "einsum": lambda m, x: torch.einsum("bi,oi->bo", x, m.fc.weight),
    "layer_norm": lambda m, x: F.layer_norm(x, (4,)),
    "rms_norm": lambda m, x: F.rms_norm(x, (4,)),
    "batch_norm": lambda m, x: F.batch_norm(x, None, None, training=True),
    "group_norm": lambda m, x: F.group_norm(x, 2),
    "softmax": lambda m, x: x.softmax(-1),
    "dropout": lambda m, x: F.dropout(x, 0.5, True),
    "silu": lambda m, x: F.silu(x),
    "gelu": lambda m, x: F.gelu(x),
    "conv1d": lambda m, x: F.conv1d(x, m.fc.weight[:, :, None][..., :1].expand(4, 4, 1)[:, :2]),
    "scaled_dot_product_attention": lambda m, x: F.scaled_dot_product_attention(x[None], x[None], x[None]),
}


@pytest.mark.parametrize("op", WHOLE)
def test_composite_ops_arrive_whole(op):
    # capture leans on private switches of torch: this is where a new version would show
    graph = capture(Of(WHOLE[op]), (2, 4))
    assert ops(graph)[-1] == op
    assert graph.rung == "meta"


def test_linear_arrives_as_linear_with_every_argument_named():
    graph = capture(nn.Linear(3, 4), (2, 3))
    [node] = graph.nodes
    assert node.op == "linear"
    assert node.func is torch.ops.aten.linear.default
    x, weight, bias = graph.inputs["input"], graph.parameters["weight"], graph.parameters["bias"]
    assert node.arguments == {"input": Ref(x), "weight": Ref(weight), "bias": Ref(bias)}
    assert node.inputs == (x, weight, bias)
    assert graph.outputs == list(node.outputs)
    assert graph.values[node.outputs[0]].shape == (2, 4)


def test_defaults_are_filled_in():
    [node] = capture(nn.Conv2d(1, 1, 3), (1, 1, 5, 5)).nodes
    assert node.arguments["dilation"] == [1, 1]
    assert node.arguments["groups"] == 1


def test_lists_of_tensors_become_lists_of_references():
    graph = capture(Of(lambda m, x: torch.cat([x, m.fc(x)], 1)), (2, 4))
    assert graph.nodes[-1].arguments == {"tensors": [Ref(graph.inputs["x"]), Ref(graph.nodes[0].outputs[0])], "dim": 1}


def test_in_place_and_plain_ops_share_a_name_and_writes_make_new_values():
    graph = capture(Of(lambda m, x: F.relu_(m.fc(x))), (2, 4))
    linear, relu = graph.nodes
    assert relu.op == "relu"
    assert relu.writes == linear.outputs
    assert relu.outputs != linear.outputs


def test_a_view_that_became_stale_is_updated_by_a_synthetic_node():
    def forward(m, x):
        y = m.fc(x)
        y[:, 1:3] *= 2
        return y

    node = capture(Of(forward), (2, 4)).nodes[-1]
    assert (node.op, node.func) == ("alias_update", None)
    assert node.arguments["old_geometry"] == ((2, 4), (4, 1), 0)
    assert node.arguments["new_geometry"] == ((2, 2), (4, 1), 1)
    assert node.arguments["numel"] == 8


def test_ops_outside_the_namespace_of_aten_keep_theirs():
    graph = capture(Of(lambda m, x: torch.ops.prims.sin(x)), (2, 4))
    assert ops(graph) == ["prims::sin"]


def test_ops_know_module_call_mode_and_gradient_mode():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1))
            self.body[1].eval()

        def forward(self, x):
            with torch.no_grad():
                x = self.body(x)
            return self.body(x) + 1

    graph = capture(Net(), (2, 4))
    assert [(n.module, n.call, n.training, n.grad) for n in graph.nodes] == [
        ("body.0", 0, True, False),
        ("body.0", 1, True, True),
        ("", 0, True, True),
    ]
    assert graph.modules == {"": "Net", "body": "Sequential", "body.0": "Linear", "body.1": "Dropout"}


def test_training_can_be_chosen_and_the_model_keeps_its_own():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1)).eval()
    assert ops(capture(model, (2, 4))) == ["linear"]
    assert ops(capture(model, (2, 4), training=True)) == ["linear", "dropout"]
    assert not model.training


def test_random_ops_are_marked_where_they_draw():
    graph = capture(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.ReLU()), (2, 4))
    assert [node.random for node in graph.nodes] == [False, True, False]


def test_tied_parameters_are_one_value_with_two_names():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    graph = capture(model, (2, 4))
    assert graph.parameters["0.weight"] == graph.parameters["1.weight"]
    assert graph.values[graph.parameters["0.weight"]].names == ("0.weight", "1.weight")


def test_wrapper_prefixes_are_stripped_from_names_and_paths():
    graph = capture(torch.nn.DataParallel(nn.Sequential(nn.Linear(4, 4))), (2, 4))
    assert set(graph.parameters) == {"0.weight", "0.bias"}
    assert graph.nodes[0].module == "0"


def test_unused_and_dead_parameters_are_told_apart():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.dead, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            self.dead(x)
            return self.used(x)

    graph = capture(Net(), (2, 4))
    assert graph.unused == ("unused.weight", "unused.bias")
    assert graph.dead == ("dead.weight", "dead.bias")


def test_values_know_what_they_depend_on():
    graph = capture(Of(lambda m, x: x * torch.arange(4) + m.fc.bias.exp()), (2, 4))
    by_op = {node.op: graph.values[node.outputs[0]] for node in graph.nodes}
    assert {op: (v.from_input, v.from_parameter, v.known is not None) for op, v in by_op.items()} == {
        "arange": (False, False, True),
        "mul": (True, False, False),
        "exp": (False, True, False),
        "add": (True, True, False),
    }


def test_shape_only_arguments_are_not_read():
    graph = capture(Of(lambda m, x: torch.zeros_like(m.fc(x)) + x), (2, 4))
    zeros = next(node for node in graph.nodes if node.op == "zeros_like")
    assert zeros.inputs == ()
    assert torch.equal(graph.values[zeros.outputs[0]].known, torch.zeros(2, 4))
    assert graph.dead == ("fc.weight", "fc.bias")


def test_numbers_that_were_overwritten_later_stay_as_they_were():
    def forward(m, x):
        mask = torch.ones(4)
        y = x * mask
        mask[1:] = 0
        return y + mask

    graph = capture(Of(forward), (2, 4))
    numbers = {node.op: graph.values[node.outputs[0]].known for node in graph.nodes}
    assert numbers["ones"].tolist() == [1, 1, 1, 1]
    assert numbers["alias_update"].tolist() == [1, 0, 0, 0]


def test_memory_is_known_once_every_hole_is_filled():
    def forward(m, x):
        full, half = torch.empty(4), torch.empty(4)
        full[:2], full[2:], half[:2] = 1.0, 2.0, 1.0
        return x * full * half

    graph = capture(Of(forward), (2, 4))
    factors = [graph.values[node.arguments["other"].id].known for node in graph.nodes if node.op == "mul"]
    assert factors[0].tolist() == [1.0, 1.0, 2.0, 2.0]
    assert factors[1] is None


def test_control_flow_on_memory_that_nobody_wrote_is_not_answered_from_what_happens_to_stand_there():
    graph = capture(Of(lambda m, x: m.fc(x) if torch.empty(1) < 1e30 else m.fc(x) * 1), (2, 4))
    assert graph.rung == "real"


def test_integers_given_as_a_type_alone_steer_control_flow_and_are_reported():
    table = nn.Embedding(10, 4)
    graph = capture(Of(lambda m, ids: table.weight.detach() * ids.max().item()), "1x3:int64")
    assert graph.values[graph.inputs["x"]].known is None
    assert graph.assumed == ("item -> 1 at the root module",)


def test_integers_given_as_a_tensor_are_known():
    ids = torch.tensor([[1, 2, 3]])
    graph = capture(nn.Embedding(10, 4), ids)
    assert torch.equal(graph.values[graph.inputs["input"]].known, ids)
    assert graph.assumed == ()


def test_a_model_on_meta_is_captured_as_one_with_weights():
    make = functools.partial(nn.TransformerEncoderLayer, 8, 2, 16, batch_first=True)
    real, hollow = capture(make(), (2, 3, 8)), capture(make(device="meta"), (2, 3, 8))
    assert ops(real) == ops(hollow)
    assert [v.shape for v in real.values] == [v.shape for v in hollow.values]


def test_control_flow_on_activations_is_run_on_real_tensors_and_said_so():
    graph = capture(Of(lambda m, x: m.fc(x) if x.sum() > -1e9 else x), (2, 4))
    assert graph.rung == "real"
    assert any("is_nonzero -> True (from activations) at the root module" in line for line in graph.assumed)


def test_autograd_inside_the_model_is_let_in():
    def forward(m, x):
        with torch.enable_grad():
            x = x.requires_grad_()
            return torch.autograd.grad(m.fc(x).square().sum(), x, create_graph=True)[0]

    assert capture(Of(forward), (2, 4)).rung == "meta+autograd"


def test_custom_functions_are_marked_as_a_region_through_which_gradients_pass():
    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

        @staticmethod
        def backward(ctx, grad):
            return grad

    graph = capture(Of(lambda m, x: Round.apply(m.fc(x)) * 2), (2, 4))
    assert [(n.op, n.region, n.grad) for n in graph.nodes] == [
        ("linear", "", True),
        ("round", "Round#1", True),
        ("mul", "", True),
    ]


def test_the_branch_that_torch_cond_takes_is_recorded():
    def forward(m, x):
        return torch.cond(torch.tensor(False), lambda a: m.fc(a), lambda a: a * 2, (x,))

    assert ops(capture(Of(forward), (2, 4)))[-1] == "mul"


def test_layer_drop_keeps_the_layer_and_says_so():
    graph = capture(Of(lambda m, x: x if torch.rand([]) < 0.5 else m.fc(x)), (2, 4))
    assert "linear" in ops(graph)
    assert graph.assumed == ("is_nonzero -> False at the root module",)


@functools.lru_cache
def grid(size, device):
    return torch.linspace(0, 1, size, device=device)


def test_caches_of_functions_hold_no_tensor_on_meta_afterwards():
    capture(Of(lambda m, x: m.fc(x) * grid(4, x.device)), (2, 4))
    assert grid.cache_info().currsize == 0


def test_a_failed_capture_restores_mode_switches_and_random_state():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(3, 4))
    state = torch.get_rng_state()
    functions = torch.autograd.Function.apply, nn.functional._verify_batch_size
    with pytest.raises(InputError):
        capture(model, (2, 4))
    assert torch.equal(state, torch.get_rng_state())
    assert functions == (torch.autograd.Function.apply, nn.functional._verify_batch_size)
    assert torch.zeros(2).device.type == "cpu"
    assert nn.Linear(2, 2)(torch.zeros(1, 2)).requires_grad


def test_capture_works_under_no_grad_and_keeps_it():
    with torch.no_grad():
        graph = capture(nn.Linear(4, 4), (2, 4))
        assert not torch.is_grad_enabled()
    assert graph.nodes[0].grad


def test_captures_in_several_threads_do_not_meet():
    before = nn.functional._verify_batch_size, torch.autograd.Function.__dict__["apply"], torch.cond
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: ops(capture(model, (2, 4))), range(8)))
    assert found == [["linear", "add", "batch_norm", "relu"]] * 8
    assert before == (nn.functional._verify_batch_size, torch.autograd.Function.__dict__["apply"], torch.cond)


@pytest.mark.parametrize(
    "context", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu"), lambda: torch.device("meta")]
)
def test_capture_does_not_depend_on_the_mode_of_its_caller(context):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with context():
        graph = capture(model, (2, 4))
    assert [(node.op, node.grad) for node in graph.nodes] == [("linear", True), ("relu", True)]


class TestBadInput:
    def refused(self, error, match, model, inputs=(2, 4)):
        with pytest.raises(error, match=match):
            capture(model, inputs)

    def test_wrong_shape_names_the_module_the_op_and_the_inputs(self):
        model = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3))
        self.refused(
            InputError, r"failed at 1 \(Conv2d\), conv2d\(.*\).*input: float32 \(1, 4, 8, 8\)", model, (1, 4, 8, 8)
        )

    def test_lazy_modules_are_named(self):
        model = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(3))
        self.refused(ModelError, r"weight of 1 \(LazyLinear\).*Run model\(x\) once", model)

    def test_missing_arguments_show_the_signature(self):
        model = nn.Bilinear(4, 4, 4)
        self.refused(InputError, r"Bilinear.forward\(input1, input2\) does not take.*missing.*'input2'", model)

    def test_a_class_or_factory_is_to_be_called_first(self):
        self.refused(
            ModelError, r"the model is a function, not a torch.nn.Module. Call it first", lambda: nn.Linear(4, 4)
        )

    def test_models_that_return_no_tensor_are_refused(self):
        self.refused(CaptureError, r"returns a str without a tensor in it", Of(lambda m, x: "nothing"))

    def test_errors_of_the_model_keep_their_words(self):
        def forward(m, x):
            raise KeyError("pos_embed")

        self.refused(InputError, re.escape("the root module (Of): KeyError: 'pos_embed'"), Of(forward))

    def test_inputs_on_another_device_are_named_with_both(self, monkeypatch):
        from stepzero.network import _checks as checks

        x = torch.zeros(2, 4)
        monkeypatch.setattr(checks, "_homes", lambda model: {torch.device("cuda", 0)})
        self.refused(InputError, r"input input is on cpu, the model on cuda:0.*\.to\('cuda:0'\)", nn.Linear(4, 4), x)

    def test_models_too_large_for_a_real_run_are_refused_with_the_reason(self, monkeypatch):
        monkeypatch.setattr(ladder, "LIMIT", 10)
        self.refused(CaptureError, r"too large to be run for real", Of(lambda m, x: m.fc(x) if x.sum() > 0 else x))

    def test_indices_beyond_their_table_are_named(self):
        self.refused(
            InputError,
            r"index 7 at 0 is out of range: the table has 5 rows",
            nn.Sequential(nn.Embedding(5, 2)),
            torch.tensor([7]),
        )

    def test_sparse_tensors_are_refused(self):
        def forward(m, x):
            return torch.sparse.mm(torch.eye(4).to_sparse(), m.fc(x).t())

        self.refused(CaptureError, r"at the root module \(Of\).*layout sparse_coo cannot be followed", Of(forward))

    def test_models_without_parameters_are_refused_where_parameters_are_needed(self):
        with pytest.raises(ModelError, match="ReLU has no parameters"):
            require_parameters(nn.ReLU())
