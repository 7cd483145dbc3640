"""What models take from libraries and composites, one small module each: the recorded graph must say the same as the run."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from einops.layers.torch import Rearrange
from torch import nn

from .quirks import Lin, Quirks

quirk = Quirks()


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


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*use_reentrant.*")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", quirk)
class TestEveryQuirk:
    def test_replayed_graph_gives_the_outputs_and_gradients_of_the_model(self, name, training, replays):
        replays(*quirk[name], training)

    def test_capture_leaves_the_model_and_the_random_state_as_they_were(self, name, training, leaves_alone):
        leaves_alone(*quirk[name], training)
