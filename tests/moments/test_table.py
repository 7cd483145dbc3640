"""Conformance: every key of RULES names a real op, is recorded under that name, and predicts its second moment."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepzero.moments import MOVES, RULES, propagate
from stepzero.network import capture

aten = torch.ops.aten
IMAGE, VECTOR, LINE, VOLUME = (4, 6, 8, 8), (64, 12), (4, 6, 16), (2, 6, 4, 4, 4)
POSITIVE = [
    "log",
    "log2",
    "log1p",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "logit",
    "acos",
    "asin",
    "tan",
]  # of a sigmoid, where they are finite


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weights = nn.ParameterDict({
            "matrix": nn.Parameter(torch.ones(12, 16)), "bias": nn.Parameter(torch.ones(16)), "line": nn.Parameter(torch.ones(6, 6, 3)),
            "plane": nn.Parameter(torch.ones(6, 6, 3, 3)), "cube": nn.Parameter(torch.ones(6, 6, 3, 3, 3)),
            "experts": nn.Parameter(torch.ones(3, 16, 24)), "input_gates": nn.Parameter(torch.ones(384, 12)), "state_gates": nn.Parameter(torch.ones(384, 96)),
            "gain": nn.Parameter(torch.ones(6)), "length": nn.Parameter(torch.ones(6, 1, 1, 1)), "tokens": nn.Parameter(torch.ones(30, 8)),
        })  # fmt: skip
        self.weights.requires_grad_(True)

    def forward(self, *xs):
        return self.function(self.weights, *xs)


def one(function, shape=IMAGE):
    """A sample that ignores the weights."""
    return (lambda w, *xs: function(*xs)), (shape,)


def two(function, shape=IMAGE):
    return (lambda w, *xs: function(*xs)), (shape, shape)


def named(name, *args, shape=IMAGE, **kwargs):
    """The op of that name, called as it is."""
    op = getattr(aten, name)
    if name in POSITIVE:
        return one(lambda x: op(0.2 + 0.6 * torch.sigmoid(x), *args, **kwargs), shape)
    return one(lambda x: op(x, *args, **kwargs), shape)


SAMPLES = {
    **{name: named(name) for name in ["abs", "atan", "celu", "cos", "elu", "erf", "erfc", "exp", "expm1", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_sigmoid", "mish", "nan_to_num", "neg", "relu", "relu6", "selu", "sigmoid", "silu", "sin", "sinh", "softplus", "special_erf", "special_expit", "square", "tanh", "alias", "detach", "clone"]},
    **{name: named(name) for name in POSITIVE},
    "clamp": named("clamp", -0.5, 0.8), "clamp_max": named("clamp_max", 0.4), "clamp_min": named("clamp_min", -0.4),
    "pow": named("pow", 2), "softshrink": named("softshrink", 0.3), "threshold": named("threshold", 0.1, 0.0),
    "glu": named("glu", 1), "rrelu": one(lambda x: F.rrelu(x, training=True)),
    "prelu": ((lambda w, x: torch.prelu(x, w["gain"])), (IMAGE,)),
    "to": one(lambda x: x.to(torch.float64)), "_to_copy": named("_to_copy", dtype=torch.float64), "type_as": two(lambda a, b: a.type_as(b.half())),
    "view": named("view", [4, 6, 64]), "reshape": named("reshape", [4, 6, 64]), "_unsafe_view": named("_unsafe_view", [4, 6, 64]),
    "flatten": named("flatten", 2), "unflatten": one(lambda x: x.unflatten(1, (2, 3))), "squeeze": one(lambda x: x[:, :1].squeeze(1)),
    "unsqueeze": named("unsqueeze", 1), "view_as": two(lambda a, b: a.view_as(b)), "reshape_as": two(lambda a, b: a.reshape_as(b)),
    "contiguous": one(lambda x: x.transpose(1, 2).contiguous()), "permute": named("permute", [0, 2, 3, 1]), "transpose": named("transpose", 1, 2),
    "t": named("t", shape=VECTOR), "movedim": one(lambda x: x.movedim(1, 3)), "moveaxis": one(lambda x: x.moveaxis(1, 3)),
    "swapaxes": named("swapaxes", 1, 2), "swapdims": named("swapdims", 1, 2), "numpy_T": named("numpy_T", shape=VECTOR),
    "adjoint": named("adjoint"), "mT": named("mT"), "slice": named("slice", 2, 1, 5), "narrow": named("narrow", 2, 1, 5),
    "chunk": one(lambda x: x.chunk(2, 1)[0]), "split": one(lambda x: aten.split(x, 2, 1)[0]),
    "split_with_sizes": one(lambda x: aten.split_with_sizes(x, [2, 4], 1)[0]), "tensor_split": one(lambda x: x.tensor_split(2, 1)[0]),
    "unsafe_chunk": one(lambda x: aten.unsafe_chunk(x, 2, 1)[0]), "unsafe_split": one(lambda x: aten.unsafe_split(x, 2, 1)[0]),
    "index_select": one(lambda x: x.index_select(1, torch.tensor([0, 2]))), "index": one(lambda x: x[torch.tensor([0, 2])]),
    "roll": named("roll", [1], [2]), "flip": named("flip", [2]), "channel_shuffle": named("channel_shuffle", 2),
    "native_channel_shuffle": named("native_channel_shuffle", 2), "pixel_shuffle": one(lambda x: F.pixel_shuffle(x[:, :4], 2)),
    "pixel_unshuffle": named("pixel_unshuffle", 2), "select": named("select", 2, 1), "unbind": one(lambda x: x.unbind(2)[0]),
    "expand": one(lambda x: x[:, :1].expand(4, 6, 8, 8)), "expand_as": two(lambda a, b: a[:, :1].expand_as(b)),
    "broadcast_to": one(lambda x: aten.broadcast_to(x[:, :1], [4, 6, 8, 8])), "repeat": named("repeat", [1, 1, 2, 1]), "tile": named("tile", [1, 1, 2, 1]),
    "pad": one(lambda x: F.pad(x, (1, 1))), "constant_pad_nd": named("constant_pad_nd", [1, 1], 0.5),
    "reflection_pad1d": named("reflection_pad1d", [1, 1], shape=LINE), "reflection_pad2d": named("reflection_pad2d", [1, 1, 1, 1]),
    "reflection_pad3d": named("reflection_pad3d", [1] * 6, shape=VOLUME),
    "replication_pad1d": named("replication_pad1d", [1, 1], shape=LINE), "replication_pad2d": named("replication_pad2d", [1, 1, 1, 1]),
    "cat": two(lambda a, b: torch.cat([a, b], 1)), "concat": two(lambda a, b: aten.concat([a, b], 1)),
    "concatenate": two(lambda a, b: aten.concatenate([a, b], 1)), "stack": two(lambda a, b: torch.stack([a, b], 1)),
    "linear": ((lambda w, x: F.linear(x, w["matrix"].T, w["bias"])), (VECTOR,)), "addmm": ((lambda w, x: torch.addmm(w["bias"], x, w["matrix"])), (VECTOR,)),
    "mm": ((lambda w, x: torch.mm(x, w["matrix"])), (VECTOR,)), "matmul": ((lambda w, x: x @ w["matrix"]), (VECTOR,)),
    "bmm": two(lambda a, b: torch.bmm(a, b.transpose(1, 2)), (8, 12, 16)),
    "conv1d": ((lambda w, x: F.conv1d(x, w["line"])), (LINE,)), "conv2d": ((lambda w, x: F.conv2d(x, w["plane"])), (IMAGE,)),
    "conv3d": ((lambda w, x: F.conv3d(x, w["cube"])), (VOLUME,)), "conv_transpose1d": ((lambda w, x: F.conv_transpose1d(x, w["line"])), (LINE,)),
    "conv_transpose2d": ((lambda w, x: F.conv_transpose2d(x, w["plane"])), (IMAGE,)), "conv_transpose3d": ((lambda w, x: F.conv_transpose3d(x, w["cube"])), (VOLUME,)),
    "convolution": ((lambda w, x: aten.convolution(x, w["plane"], None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)), (IMAGE,)),
    "embedding": ((lambda w, x: F.embedding(torch.arange(16).reshape(2, 8), w["tokens"]) + x), ((2, 8, 8),)),
    "add": two(torch.add), "sub": two(torch.sub), "rsub": two(torch.rsub), "mul": two(torch.mul), "multiply": two(aten.multiply),
    "div": two(lambda a, b: a / b.square().mean().sqrt()), "divide": two(lambda a, b: aten.divide(a, b.square().mean().sqrt())),
    "true_divide": two(lambda a, b: aten.true_divide(a, b.square().mean().sqrt())),
    "maximum": two(torch.maximum), "minimum": two(torch.minimum), "fmax": two(torch.fmax), "fmin": two(torch.fmin),
    "where": two(lambda a, b: torch.where(torch.arange(8) > 3, a, 2 * b)), "masked_fill": one(lambda x: x.masked_fill(torch.arange(8) > 3, 0.5)),
    "batch_norm": ((lambda w, x: F.batch_norm(x, None, None, w["gain"], training=True)), (IMAGE,)), "instance_norm": one(F.instance_norm),
    "group_norm": one(lambda x: F.group_norm(x, 3)), "layer_norm": one(lambda x: F.layer_norm(x, [12]), VECTOR), "rms_norm": one(lambda x: F.rms_norm(x, [12]), VECTOR),
    "_weight_norm": ((lambda w, x: F.conv2d(x, torch._weight_norm(w["plane"], w["length"], 0))), (IMAGE,)),
    "softmax": one(lambda x: x.softmax(1), VECTOR), "_softmax": one(lambda x: aten._softmax(x, 1, False), VECTOR),
    "scaled_dot_product_attention": ((lambda w, q, k, v: F.scaled_dot_product_attention(q, k, v)), ((2, 4, 8, 16),) * 3),
    **{f"avg_pool{n}d": one((lambda x, n=n: getattr(aten, f"avg_pool{n}d")(x, [2] * n)), s) for n, s in ((1, LINE), (2, IMAGE), (3, VOLUME))},
    **{f"adaptive_avg_pool{n}d": one((lambda x, n=n: getattr(aten, f"adaptive_avg_pool{n}d")(x, [2] * n)), s) for n, s in ((1, LINE), (2, IMAGE), (3, VOLUME))},
    **{f"max_pool{n}d": one((lambda x, n=n: getattr(aten, f"max_pool{n}d")(x, [2] * n)), s) for n, s in ((1, LINE), (2, IMAGE), (3, VOLUME))},
    **{f"max_pool{n}d_with_indices": one((lambda x, n=n: getattr(aten, f"max_pool{n}d_with_indices")(x, [2] * n)[0]), s) for n, s in ((1, LINE), (2, IMAGE), (3, VOLUME))},
    **{f"upsample_nearest{n}d": one(lambda x: F.interpolate(x, scale_factor=2), s) for n, s in ((1, LINE), (2, IMAGE), (3, VOLUME))},
    **{f"_upsample_nearest_exact{n}d": one(lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"), s) for n, s in ((1, LINE), (2, IMAGE), (3, VOLUME))},
    **{f"upsample_{mode}": one((lambda x, mode=mode: F.interpolate(x, scale_factor=2, mode=mode[:-2])), s)
       for mode, s in (("linear1d", LINE), ("bilinear2d", IMAGE), ("trilinear3d", VOLUME), ("bicubic2d", IMAGE))},
    **{f"_upsample_{mode}2d_aa": one(lambda x, mode=mode: F.interpolate(x, size=(5, 5), mode=mode, antialias=True)) for mode in ("bilinear", "bicubic")},
    "mean": one(lambda x: x.mean((2, 3))), "sum": one(lambda x: x.sum(1)),
    "dropout": one(lambda x: F.dropout(x, 0.2)), "feature_dropout": one(lambda x: F.dropout2d(x, 0.2)),
    "alpha_dropout": one(lambda x: F.alpha_dropout(x, 0.2, training=True)), "feature_alpha_dropout": one(lambda x: F.feature_alpha_dropout(x, 0.2, training=True)),
    "bernoulli": one(lambda x: x * torch.empty_like(x).bernoulli_(0.7)), "normal": one(lambda x: x + torch.empty_like(x).normal_(0.2, 0.5)),
    "randn": one(lambda x: x + torch.randn(x.shape)), "randn_like": one(lambda x: x + torch.randn_like(x)), "rand": one(lambda x: x * torch.rand(x.shape)),
    "rand_like": one(lambda x: x * torch.rand_like(x)), "uniform": one(lambda x: x * torch.empty_like(x).uniform_(0, 2)), "exponential": one(lambda x: x * torch.empty_like(x).exponential_(1.5)),
}  # fmt: skip


def recurrent(name, gates):
    """A recurrent op of width 96 on 12 features."""

    def run(w, x):
        states = [x.new_zeros(1, len(x), 96)] * (2 if name == "lstm" else 1)
        rows = 96 * gates
        weights = [0.3 * w["input_gates"][:rows], 0.2 * w["state_gates"][:rows]]
        start = states if name == "lstm" else states[0]
        return getattr(aten, name)(x, start, weights, False, 1, 0.0, True, False, True)[0]

    return run, ((8, 10, 12),)


def routed():
    """Twelve tokens, four for each of three experts."""
    ends = torch.tensor([4, 8, 12], dtype=torch.int32)
    return (lambda w, x: torch._grouped_mm(x.bfloat16(), w["experts"].bfloat16(), offs=ends)), ((12, 16),)


SAMPLES |= {
    **{name: recurrent(name, gates) for name, gates in (("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1))},
    "einsum": two(lambda a, b: torch.einsum("bihw,bjhw->bij", a, b)), "repeat_interleave": one(lambda x: x.repeat_interleave(2, 2)),
    "baddbmm": two(lambda a, b: torch.baddbmm(a[:, :, :12], a, b.transpose(1, 2), beta=0.5, alpha=2.0), (8, 12, 16)),
    "addcmul": two(lambda a, b: torch.addcmul(a, b, b + 1 - b, value=0.5)), "unfold": one(lambda x: x.unfold(2, 3, 2)),
    "im2col": one(lambda x: F.unfold(x, 3, padding=1)), "gather": two(lambda a, b: a.gather(2, b.argsort(2)[:, :, :3])),
    "linalg_vector_norm": one(lambda x: torch.linalg.vector_norm(x, dim=(2, 3))), "var": one(lambda x: x.var((2, 3))),
    **{name: named(name, [2, 3]) for name in ("amax", "amin")}, **{name: one(lambda x, name=name: getattr(aten, name)(x, 2)[0]) for name in ("max", "min")},
    "cumsum": named("cumsum", 2), "_grouped_mm": routed(),
}  # fmt: skip


def overwrite(x, how):
    y = x * 1.0
    how(y[:, :, 0])
    return y


def spectral(w, x):
    """A weight over its largest singular value, as one power iteration finds it."""
    matrix, v = w["matrix"], torch.full((16,), 0.25)
    with torch.no_grad():
        u = F.normalize(torch.mv(matrix, v), dim=0)
        v = F.normalize(torch.mv(matrix.H, u), dim=0)
    return F.linear(x, (matrix / torch.vdot(u, torch.mv(matrix, v))).mT)


SAMPLES |= {
    "mv": (spectral, (VECTOR,)),
    "matrix_H": one(lambda x: x.H, VECTOR),
    "copy": two(lambda a, b: overwrite(a, lambda part: part.copy_(b[:, :, 1]))),
    "fill": one(lambda x: overwrite(x, lambda part: part.fill_(0.5))),
    "zero": one(lambda x: overwrite(x, lambda part: part.zero_())),
    "alias_update": one(lambda x: overwrite(x, lambda part: part.mul_(2.0))),
}


def cell(name, gates):
    """Two steps of a recurrent cell of width 96 on 12 features."""

    def run(w, x):
        rows = 96 * gates
        weights = 0.3 * w["input_gates"][:rows], 0.2 * w["state_gates"][:rows]
        zero = x.new_zeros(len(x), 96)
        state = [zero, zero] if name == "lstm" else zero
        for _ in range(2):
            state = getattr(aten, f"{name}_cell")(x, state, *weights)
        return state[0] if name == "lstm" else state

    return run, (VECTOR,)


def packed(x):
    return aten._pack_padded_sequence(x, torch.tensor([16, 12, 5, 1]), True)


SAMPLES |= {
    **{f"{name}_cell": cell(name, gates) for name, gates in (("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1))},
    "_pack_padded_sequence": one(lambda x: packed(x)[0], (4, 16, 6)),
    "_pad_packed_sequence": one(lambda x: aten._pad_packed_sequence(*packed(x), True, 0.5, 20)[0], (4, 16, 6)),
}  # fmt: skip


def complexes(x):
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def spectrum(name):
    """A transform of places, there and (for an inverse one) back."""
    several = name[-1] in "2n"
    options = {"dim": (2, 3)} if several else {"dim": 3}
    there = getattr(torch.fft, name.removeprefix("fft_i").removeprefix("fft_"))
    back = getattr(torch.fft, name.removeprefix("fft_"))
    if name.startswith("fft_i"):
        return one(lambda x: torch.view_as_real(y) if (y := back(there(x, **options), **options)).is_complex() else y)
    return one(lambda x: torch.view_as_real(there(x, **options)))


SAMPLES |= {
    "view_as_complex": one(lambda x: complexes(x).imag), "view_as_real": one(lambda x: torch.view_as_real(complexes(x))),
    "complex": two(lambda a, b: torch.complex(a, b).real), "real": one(lambda x: complexes(x).real), "imag": one(lambda x: complexes(x).imag),
    **{name: one(lambda x, name=name: getattr(aten, name)(complexes(x)).imag) for name in ("_conj", "_conj_physical", "conj", "conj_physical")},
    "resolve_conj": one(lambda x: complexes(x).conj().resolve_conj().real),
    **{name: spectrum(name) for name in RULES if name.startswith("fft_")},
}  # fmt: skip
SAMPLES |= {
    **{name: named(name) for name in ("asinh", "ceil", "cosh", "exp2", "floor", "frac", "round", "sign", "sinc", "trunc")},
    "clip": named("clip", -0.5, 0.8), "fmod": named("fmod", 0.7), "remainder": named("remainder", 0.7), "logsumexp": named("logsumexp", [2]),
    "as_strided": one(lambda x: x.contiguous().as_strided((4, 5, 6), (96, 6, 1)), (4, 16, 6)), "masked_select": one(lambda x: x.masked_select(x.flip(1) > 0)),
    "take": one(lambda x: x.take(torch.arange(40))), "take_along_dim": two(lambda a, b: a.take_along_dim(b.argsort(2), 2)),
    "index_put": two(lambda a, b: a.index_put((torch.arange(3),), 2 * b[:3])), "cdist": two(lambda a, b: torch.cdist(a, b), (20, 96)),
    "linalg_norm": one(lambda x: torch.linalg.norm(x, dim=(2, 3))), "norm": one(lambda x: aten.norm(x, 2, [2, 3])),
    "sort": one(lambda x: x.sort(2).values), "topk": one(lambda x: aten.topk(x, 3, 2)[0]),
    "col2im": one(lambda x: F.fold(x, (6, 6), 3, padding=1), (4, 18, 36)),
    "masked_scatter": two(lambda a, b: a.masked_scatter(torch.arange(8) > 3, 2 * b)),
    "scatter": two(lambda a, b: a.scatter(3, b.argsort(3)[..., :3], 2 * b)), "scatter_add": two(lambda a, b: a.scatter_add(3, b.argsort(3)[..., :4], 2 * b)),
    "index_add": two(lambda a, b: a.index_add(0, b[:, 0].argsort()[:20], b[:20]), VECTOR),
    **{name: ((lambda w, a, b, name=name: getattr(aten, name)(a, b)), ((40,), (30,))) for name in ("ger", "outer")},
    **{f"adaptive_max_pool{n}d": one((lambda x, n=n: getattr(aten, f"adaptive_max_pool{n}d")(x, [2] * n)[0]), s) for n, s in ((1, LINE), (2, IMAGE), (3, VOLUME))},
}  # fmt: skip
LOOSE = 0.03  # of the second moment: the approximations that the rules name


def test_every_rule_has_a_sample():
    assert set(SAMPLES) == set(RULES)


@pytest.mark.parametrize("name", sorted(RULES))
def test_each_rule_is_met_under_its_name_and_holds(name):
    function, shapes = SAMPLES[name]
    torch.set_num_threads(1)
    torch.manual_seed(11)
    module = Of(function)
    graph = capture(module, tuple(torch.zeros(s) for s in shapes))
    assert name in {node.op for node in graph.nodes}
    mean, second = torch.tensor(0.0).double(), torch.tensor(0.25).double()
    flow = propagate(graph, {}, dict.fromkeys(graph.parameters, (mean, second)), on_unknown="error")
    rows = []
    for _ in range(60):
        with torch.no_grad():
            for p in module.parameters():
                p.normal_(0.0, 0.5)
            rows.append(module(*(torch.randn(s) for s in shapes)).double().square().mean())
    samples, expected = torch.stack(rows), flow.second(graph.outputs[0])
    error = float(samples.std()) / len(rows) ** 0.5
    assert abs(float(samples.mean()) - expected) <= 5 * error + LOOSE * expected


def test_moves_are_rules():
    assert set(RULES) >= MOVES


def test_rules_name_ops_that_exist():
    synthetic = {"alias_update"}  # recorded by us
    assert {name for name in RULES if not hasattr(aten, name)} == synthetic
