"""What models write in place and through views, one small module each: the recorded graph must say the same as the run."""

import pytest
import torch
import torch.nn.functional as F

from .quirks import Lin, Quirks

quirk = Quirks()


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


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*use_reentrant.*")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", quirk)
class TestEveryQuirk:
    def test_replayed_graph_gives_the_outputs_and_gradients_of_the_model(self, name, training, replays):
        replays(*quirk[name], training)

    def test_capture_leaves_the_model_and_the_random_state_as_they_were(self, name, training, leaves_alone):
        leaves_alone(*quirk[name], training)
