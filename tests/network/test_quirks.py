"""What models do in Python and in place, one small module each: the recorded graph must say the same as the run."""

import copy
import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from einops.layers.torch import Rearrange
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

from stepzero.network import Graph, capture, leaves, real_inputs, replay, tensors_in

QUIRKS: dict[str, tuple[Callable[[], nn.Module], object]] = {}


def quirk(inputs):
    def register(make):
        QUIRKS[make.__name__] = (make, inputs)
        return make

    return register


class Lin(nn.Module):
    """A module with one linear layer, for quirks that only need a weight."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)


# In place and through views


@quirk((2, 6))
class InPlaceActivation(Lin):
    def forward(self, x):
        return F.relu_(self.fc(x)) + F.relu(self.fc(x), inplace=True)


@quirk((2, 6))
class WriteThroughSlice(Lin):
    def forward(self, x):
        y = self.fc(x)
        y[:, 1:3] += 2.0
        return y * 3


@quirk((2, 6))
class WriteThroughOverlappingViews(Lin):
    def forward(self, x):
        y = self.fc(x).clone()
        a, b = y[:, :4], y[:, 2:]
        a.mul_(2.0)
        b.add_(a.sum())
        return y, a, b


@quirk((2, 6))
class WriteThroughTransposedView(Lin):
    def forward(self, x):
        y = self.fc(x).clone()
        y.t()[1:3].zero_()
        y.view(-1)[::5].fill_(7.0)
        return y


@quirk((2, 6))
class FillPreallocated(Lin):
    def forward(self, x):
        out = torch.zeros(x.shape[0], 3, 6)
        h = x
        for step in range(3):
            h = torch.tanh(self.fc(h))
            out[:, step] = h
        return out


@quirk((2, 6))
class MaskedWrite(Lin):
    def forward(self, x):
        y = self.fc(x).clone()
        y[y < 0] = 0.5
        y[torch.tensor([0, 1]), torch.tensor([2, 3])] = 9.0
        return y


@quirk((2, 6))
class InPlaceOnDetached(Lin):
    def forward(self, x):
        y = self.fc(x)
        y.detach().mul_(2.0)
        return y + 1


@quirk((2, 6))
class InPlaceShape(Lin):
    def forward(self, x):
        return self.fc(x).clone().unsqueeze_(1).squeeze_(1).t_()


@quirk((2, 6))
class ResidualAddInPlace(Lin):
    def forward(self, x):
        y = self.fc(x)
        y += x
        y *= 0.5
        return y


@quirk((2, 6))
class OutArgument(Lin):
    def forward(self, x):
        with torch.no_grad():
            buffer = torch.empty(2, 6)
            torch.add(self.fc(x), 1.0, out=buffer)
        return buffer * self.fc(x)


@quirk((2, 6))
class ExpandThenClone(Lin):
    def forward(self, x):
        y = self.fc(x)[:, :1].expand(-1, 6).clone()
        y[:, 0] = 0
        return y


# Weights that are shared, made or moved


@quirk((2, 6))
class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x).relu())


@quirk((2, 6))
class SharedModule(Lin):
    def forward(self, x):
        return self.fc(self.fc(x).tanh())


@quirk((2, 6))
class WeightNormOld(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with pytest.warns(FutureWarning):
            self.fc = torch.nn.utils.weight_norm(nn.Linear(6, 6))

    def forward(self, x):
        return self.fc(x)


@quirk((2, 6))
class WeightNormNew(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = parametrizations.weight_norm(nn.Linear(6, 6))

    def forward(self, x):
        with parametrize.cached():
            return self.fc(x) + self.fc(x * 2)


@quirk((2, 3, 8, 8))
class SpectralNormOld(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))

    def forward(self, x):
        return self.conv(x)


@quirk((2, 6))
class SpectralNormNew(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = parametrizations.spectral_norm(nn.Linear(6, 6))

    def forward(self, x):
        return self.fc(x)


@quirk((2, 6))
class OrthogonalParametrization(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = parametrizations.orthogonal(nn.Linear(6, 6), orthogonal_map="cayley")

    def forward(self, x):
        return self.fc(x)


@quirk((2, 3, 8, 8))
class WeightStandardized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        w = self.conv.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, w, self.conv.bias)


@quirk((2, 6))
class LowRankAdapter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(6, 6).requires_grad_(False)
        self.down, self.up = nn.Linear(6, 2, bias=False), nn.Linear(2, 6, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x)) * 0.5


@quirk((2, 6))
class Hypernet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Linear(6, 36)

    def forward(self, x):
        return torch.bmm(self.make(x).view(2, 6, 6), x[..., None])[..., 0]


@quirk((2, 6))
class ParameterInForward(Lin):
    def forward(self, x):
        return F.linear(x, nn.Parameter(self.fc.weight * 1.0)) + self.fc(x)


@quirk((2, 6))
class ParametersInList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(6, 6)) for _ in range(2)])
        self.table = nn.ParameterDict({"shift": nn.Parameter(torch.randn(6))})

    def forward(self, x):
        for w in self.weights:
            x = x @ w
        return x + self.table["shift"]


@quirk((2, 6))
class UnusedAndDead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.dead, self.unused = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        self.dead(x)
        return self.used(x)


# Gradient stops and custom autograd


@quirk((2, 6))
class StopGradient(Lin):
    def forward(self, x):
        y = self.fc(x)
        with torch.no_grad():
            z = self.fc(x) * 2
        return y * y.detach() + z + y.data


@quirk((2, 6))
class Checkpointed(Lin):
    def forward(self, x):
        return checkpoint(self.fc, x, use_reentrant=False) + checkpoint(self.fc, self.fc(x), use_reentrant=True)


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x * factor

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None


@quirk((2, 6))
class CustomFunction(Lin):
    def forward(self, x):
        return Scale.apply(self.fc(x), 3.0)


# Control flow and known values


@quirk((2, 6))
class BranchOnShape(Lin):
    def forward(self, x):
        return self.fc(x) if x.shape[0] == 2 and x.numel() > 3 and not x.is_cuda else x


@quirk((2, 6))
class BranchOnBuffer(Lin):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.tensor([3, 1]))

    def forward(self, x):
        for _ in range(int(self.steps[0])):
            x = self.fc(x)
        if self.steps.sum() > 2 and 3 in self.steps and self.steps.tolist() == [3, 1]:
            x = x * self.steps.max().item()
        return x / self.steps.cpu().numpy()[0]


@quirk((2, 6))
class CountsCalls(Lin):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls += 1
        return self.fc(x) * self.calls if self.calls > 0 else x


@quirk((2, 6))
class BranchOnActivation(Lin):
    def forward(self, x):
        y = self.fc(x)
        return y / y.abs().max().item() if (y > 0).any() else y


@quirk((2, 6))
class NanGuard(Lin):
    def forward(self, x):
        y = self.fc(x)
        if torch.isnan(y).any() or torch.isinf(y).any() or not torch.isfinite(y).all():
            y = torch.nan_to_num(y)
        return y


@quirk({"args": (torch.tensor([[1, 4, 2], [3, 0, 0]]),)})
class IntegerInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 6, padding_idx=0)

    def forward(self, ids):
        lengths = (ids != 0).sum(1)
        h = self.table(ids)[:, : lengths.max()]
        return h.sum(1) / lengths[:, None]


@quirk((2, 5, 6))
class CausalMask(Lin):
    def forward(self, x):
        mask = torch.full((5, 5), -math.inf).triu(1)
        scores = self.fc(x) @ x.transpose(1, 2) + mask.to(x.dtype).to(x.device)
        return scores.softmax(-1) @ x


@quirk((2, 6))
class CpuConstants(Lin):
    def forward(self, x):
        grid = torch.from_numpy(torch.linspace(0, 1, 6).numpy()) + torch.tensor([1.0] * 6, device="cpu")
        return self.fc(x) * grid.to(x)


@quirk((2, 6))
class PlainTensorAttribute(Lin):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.tensor([2.0, 3.0])
        self.cache = {}

    def forward(self, x):
        self.cache.setdefault("grid", torch.arange(6.0))
        self.scale.mul_(1.0)
        return self.fc(x) * self.scale[0] + self.cache["grid"]


@quirk((2, 6))
class IndexWithKnownMask(Lin):
    def forward(self, x):
        keep = torch.tensor([True, False, True, True, False, True])
        return self.fc(x)[:, keep] @ torch.ones(int(keep.sum()), 2)


@quirk((2, 6))
class IndexByList(Lin):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([5, 3, 1, 0, 2, 4]))

    def forward(self, x):
        y = self.fc(x)[:, [3, 0, 1]].clone()
        y[[0, 1], [1, 2]] = 4.0
        return y if 5 in self.order[[1, 0]] and self.order.numpy()[0] == 5 else y * 0


@quirk((2, 6))
class DataDependentShape(Lin):
    def forward(self, x):
        y = self.fc(x)
        return y[y.sum(1) > -1e9].repeat_interleave(torch.tensor([2, 1]), 0)


@quirk((2, 6))
class LearnedLayerDrop(Lin):
    def forward(self, x):
        skip = self.training and torch.rand([]) < 1e-7
        return x if skip else self.fc(x)


@quirk((3, 6))
class ExpertsByIndex(Lin):
    def forward(self, x):
        best, out = self.fc(x).argmax(-1), torch.zeros_like(x)
        for expert in range(6):
            rows = torch.where(best == expert)[0]
            out.index_add_(0, rows, self.fc(x[rows]) * expert)
        return out


@quirk((2, 6))
class SelectsByActivation(Lin):
    def forward(self, x):
        y = self.fc(x)
        return y.masked_select(y > 0).sum() + y[(y > 0).nonzero()[:, 0]].sum()


@quirk((2, 6))
class WeightRenormedInPlace(Lin):
    def forward(self, x):
        with torch.no_grad():
            self.fc.weight.div_(self.fc.weight.norm())
        return self.fc(x)


@quirk((2, 6))
class ComplexView(Lin):
    def forward(self, x):
        z = torch.view_as_real(torch.complex(self.fc(x), x))
        z[..., 0] += 1
        return torch.view_as_complex(z).abs()


@quirk((2, 6))
class Strided(Lin):
    def forward(self, x):
        return self.fc(x).as_strided((2, 3), (6, 2), 1)


@quirk((2, 6))
class Functional(Lin):
    def forward(self, x):
        weights = {"weight": self.fc.weight * 2, "bias": self.fc.bias}
        return torch.func.functional_call(self.fc, weights, (x,))


# Shapes of calls


@quirk({"args": ([torch.ones(2, 6), torch.ones(2, 6)],), "kwargs": {"scale": {"by": torch.tensor(2.0)}}})
class NestedInputs(Lin):
    def forward(self, pair, *, scale):
        return {"sum": self.fc(pair[0]) + pair[1], "more": [SimpleNamespace(x=pair[0] * scale["by"])], "none": None}


@quirk([(2, 6), (2, 6)])
class InputReturned(Lin):
    def forward(self, x, y):
        return x, self.fc(y), x[:, 1:]


@quirk((2, 6))
class SameInputWrittenInPlace(Lin):
    def forward(self, x):
        x.mul_(2.0)
        return self.fc(x)


# Libraries and composites


@quirk((2, 4, 6))
class Einops(Lin):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Rearrange("b n (h d) -> b h n d", h=2)

    def forward(self, x):
        return reduce(rearrange(self.layer(self.fc(x)), "b h n d -> b n (h d)"), "b n c -> b c", "mean")


@quirk((2, 6))
class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with pytest.warns(DeprecationWarning, match="script"):
            self.body = torch.jit.script(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)))

    def forward(self, x):
        return self.body(x) * 2


@quirk((2, 5, 6))
class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, dropout=0.1, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)

    def forward(self, x):
        return self.layer(self.attention(x, x, x, need_weights=False)[0])


@quirk((5, 2, 6))
class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 4, num_layers=2, bidirectional=True, dropout=0.2)
        self.gru, self.cell = nn.GRU(8, 6), nn.LSTMCell(6, 3)

    def forward(self, x):
        y = self.gru(self.lstm(x)[0])[0]
        return self.cell(y[-1])


@quirk((2, 6))
class Vmapped(Lin):
    def forward(self, x):
        return torch.vmap(lambda row: self.fc(row) * row.sum())(x)


@quirk((2, 6))
class Autocast(Lin):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
            return self.fc(x)


@quirk((2, 4, 8, 8))
class FourierMix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 8, 5, 2))

    def forward(self, x):
        return torch.fft.irfft2(torch.fft.rfft2(x) * torch.view_as_complex(self.weight), s=(8, 8))


@quirk((2, 6, 4, 4))
class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.Sequential(nn.BatchNorm2d(6), nn.GroupNorm(2, 6), nn.InstanceNorm2d(6, affine=True))
        self.shared = nn.BatchNorm2d(6)

    def forward(self, x):
        return self.shared(self.shared(self.norms(x)) + 1)


@quirk((2, 6))
class Dropouts(Lin):
    def forward(self, x):
        y = F.dropout(self.fc(x), 0.5, self.training) + F.alpha_dropout(x, 0.3, self.training)
        keep = y.new_empty((2, 1)).bernoulli_(0.5)
        return y.div(0.5) * keep + torch.randn_like(y) * 0.1


@quirk((2, 6))
class HooksOfTheUser(Lin):
    def __init__(self) -> None:
        super().__init__()
        self.fc.register_forward_hook(lambda module, args, output: output * 2)
        self.fc.register_forward_pre_hook(lambda module, args: (args[0] + 1,))

    def forward(self, x):
        return self.fc(x)


@quirk((2, 6))
class CannotBeCopied(Lin):
    def __init__(self) -> None:
        super().__init__()
        self.stream = (n for n in range(3))  # generators refuse deepcopy

    def forward(self, x):
        self.last = self.fc(x)
        return self.last


@quirk((2, 6))
class CatchesItsOwnError(Lin):
    def forward(self, x):
        try:
            self.fc(x[:, :2])
        except RuntimeError:
            x = x + 1
        return self.fc(x)


def outputs_and_gradients(run, parameters):
    """Return what a run makes, and the gradients of a fixed projection of it."""
    torch.manual_seed(3)
    outputs = run()
    loss = sum((t * torch.linspace(-1, 2, t.numel()).view_as(t)).sum() for t in outputs if t.requires_grad)
    if not isinstance(loss, Tensor):
        return outputs, []
    loss.backward()
    gradients = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    return outputs, gradients


def state(model: nn.Module):
    """Return everything that capture must leave alone."""
    tensors = {name: (id(t), t._version, t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    modules = {
        path: (
            m.training,
            sorted(vars(m)),
            len(m._forward_hooks),
            len(m._forward_pre_hooks),
            repr(vars(m).get("cache")),
        )
        for path, m in model.named_modules()
    }
    return tensors, modules


def same_state(a, b) -> bool:
    same = {
        name: (one[:2], torch.equal(one[2], two[2]))
        for (name, one), two in zip(a[0].items(), b[0].values(), strict=True)
    }
    ids = {name: (entry[:2], True) for name, entry in b[0].items()}
    return same == ids and a[1] == b[1]


def captured(name: str, training: bool) -> tuple[nn.Module, object, Graph]:
    torch.manual_seed(1)
    make, inputs = QUIRKS[name]
    model = make().train(training)
    inputs = real_inputs(inputs, seed=2)
    return model, inputs, capture(model, copy.deepcopy(inputs))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*use_reentrant.*")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", QUIRKS)
class TestEveryQuirk:
    def test_replayed_graph_gives_the_outputs_and_gradients_of_the_model(self, name, training):
        model, inputs, graph = captured(name, training)
        parameters = [p for p in model.parameters() if p.requires_grad]
        real = leaves(graph, model, inputs)
        got, slopes = outputs_and_gradients(lambda: replay(graph, real), parameters)
        own = copy.deepcopy(inputs)
        want, own_slopes = outputs_and_gradients(lambda: tensors_in(model(*own.args, **own.kwargs)), parameters)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
        for slope, own_slope in zip(slopes, own_slopes, strict=True):
            assert (slope is None) == (own_slope is None)
            if slope is not None:
                torch.testing.assert_close(slope, own_slope, rtol=1e-4, atol=1e-6)

    def test_capture_leaves_the_model_and_the_random_state_as_they_were(self, name, training):
        torch.manual_seed(1)
        make, inputs = QUIRKS[name]
        model = make().train(training)
        inputs = real_inputs(inputs, seed=2)
        before, random, given = state(model), torch.get_rng_state(), copy.deepcopy(inputs)
        capture(model, inputs)
        assert same_state(before, state(model))
        assert torch.equal(random, torch.get_rng_state())
        for mine, theirs in zip(tensors_in(inputs), tensors_in(given), strict=True):
            assert torch.equal(mine, theirs)
