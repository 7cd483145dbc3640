"""What models do with weights and gradients, one small module each: the recorded graph must say the same as the run."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

from .quirks import Lin, Quirks

quirk = Quirks()


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


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*use_reentrant.*")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", quirk)
class TestEveryQuirk:
    def test_replayed_graph_gives_the_outputs_and_gradients_of_the_model(self, name, training, replays):
        replays(*quirk[name], training)

    def test_capture_leaves_the_model_and_the_random_state_as_they_were(self, name, training, leaves_alone):
        leaves_alone(*quirk[name], training)
