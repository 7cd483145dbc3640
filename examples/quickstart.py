"""Plan a network, draw it, prove it: three calls on a model of your own."""

import torch
from torch import nn

import stepzero as sz


class Block(nn.Module):
    """A residual block without normalisation: with other initialisers the signal doubles in each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x plus a branch."""
        return x + self.conv2(self.act(self.conv1(self.act(x))))


model = nn.Sequential(
    nn.Conv2d(3, 64, 3, padding=1),
    *(Block(64) for _ in range(8)),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(64, 10),
)
batch = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))

plan = sz.plan(model, batch)
print(plan)

receipt = plan.apply_(model, seed=0)
print(f"\n{len(receipt.written)} parameters drawn; digest {receipt.digest[:16]}\n")

check = sz.check(model, batch, plan)
print(check)
assert check.ok
