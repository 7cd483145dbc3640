"""What models do in Python, one small module each: the recorded graph must say the same as the run."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from .quirks import Lin, Quirks

quirk = Quirks()


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
class NumbersGatheredInAList(Lin):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.tensor([3, 1]))

    def forward(self, x):
        deltas = torch.tensor([step + 1 for step in self.steps], device=x.device)
        return self.fc(x) * deltas.unsqueeze(1)


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


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*use_reentrant.*")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", quirk)
class TestEveryQuirk:
    def test_replayed_graph_gives_the_outputs_and_gradients_of_the_model(self, name, training, replays):
        replays(*quirk[name], training)

    def test_capture_leaves_the_model_and_the_random_state_as_they_were(self, name, training, leaves_alone):
        leaves_alone(*quirk[name], training)
