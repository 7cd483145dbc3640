"""What a failed forward pass tells its reader to do."""

import pytest
import torch
from torch import nn

from stepzero.errors import CaptureError, InputError
from stepzero.network import capture

LIBRARY = torch.library.Library("stepzero_hints", "DEF")
LIBRARY.define("elsewhere(Tensor x) -> Tensor")  # no kernel here, and nothing says what shape it makes


class Foreign(nn.Linear):
    def forward(self, x):
        return torch.ops.stepzero_hints.elsewhere(super().forward(x))


class Opens(nn.Linear):
    def forward(self, x):
        with open("no/such/table.bin", encoding="utf-8") as file:
            return super().forward(x) * float(file.read())


class AsksForGpu(nn.Linear):
    def forward(self, x):
        return super().forward(x.cuda())


class Misspelt(nn.Linear):
    def forward(self, x):
        return self.missing(x)


class Nested(nn.Linear):
    def forward(self, x):
        return torch.nested.nested_tensor([super().forward(x), x[:1]])


class Imports(nn.Linear):
    def forward(self, x):
        import no_such_module

        return no_such_module.scaled(super().forward(x))


CASES = {
    "linear": (nn.Linear(6, 4), (2, 5), r"at the root module \(Linear\), linear\(.*Its last axis has to be 6 wide"),
    "conv1d": (nn.Conv1d(4, 8, 3), (1, 3, 16), r"It takes \(batch, 4, length\) of type float32"),
    "conv2d": (nn.Conv2d(8, 8, 3, groups=2), (1, 3, 16, 16), r"It takes \(batch, 8, height, width\)"),
    "conv3d": (nn.Conv3d(1, 8, 3), (1, 3, 8, 8, 8), r"It takes \(batch, 1, depth, height, width\)"),
    "conv_transpose2d": (nn.ConvTranspose2d(6, 4, 2), (1, 3, 8, 8), r"It takes \(batch, 6, height, width\)"),
    "rank": (nn.Conv2d(3, 8, 3), (1, 3, 16), r"It takes \(batch, 3, height, width\)"),
    "type": (nn.Conv2d(3, 4, 3).half(), "1x3x8x8:float32", r"It takes \(batch, 3, height, width\) of type float16"),
    "embedding": (nn.Embedding(10, 4), (2, 5), r"whole numbers below 10, such as the text form 1x16:int64"),
    "file": (Opens(4, 4), (2, 4), r"no/such/table.bin'.*let that path exist from here"),
    "gpu": (
        AsksForGpu(4, 4),
        (2, 4),
        r"CUDA.*test_hints.py:\d+\)\. .*It asks for a GPU: let it follow its input, x.device",
    ),
    "own error": (Misspelt(4, 4), (2, 4), r"has no attribute 'missing'.*call model\(...\) on tensors of these shapes"),
    "nested": (Nested(4, 4), (2, 4), r"Nested tensors cannot be followed: pad them"),
    "tuple": (nn.Sequential(nn.LSTM(4, 4), nn.Linear(4, 4)), (5, 2, 4), r"at 1 \(Linear\).*returns a tuple"),
    "array": (nn.Linear(4, 4), [torch.ones(2, 4).numpy()], r"Pass torch.from_numpy\(array\)"),
    "no batch": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 4)),
        (3, 8, 8),
        r"Its last axis has to be 144 wide.* The first axis counts inputs: pass \(1, 3, 8, 8\)\.",
    ),
    "import": (Imports(4, 4), (2, 4), r"No module named 'no_such_module'.*Install what it imports"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_message_says_what_the_op_takes_or_what_the_model_needs(case):
    model, inputs, words = CASES[case]
    with pytest.raises(InputError, match=words):
        capture(model, inputs)


def test_an_op_that_runs_nowhere_here_is_named_with_what_would_let_it_be_read():
    with pytest.raises(CaptureError, match=r"stepzero_hints::elsewhere.*register_fake\('stepzero_hints::elsewhere'\)"):
        capture(Foreign(4, 4), (2, 4))


def test_missing_inputs_are_shown_as_they_would_be_written():
    with pytest.raises(InputError, match=r'they look like "input1=1x…", "input2=1x…"'):
        capture(nn.Bilinear(4, 4, 4), (2, 4))
