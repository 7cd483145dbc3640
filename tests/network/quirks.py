"""What the files of quirks are written with: a table of small models and their inputs, and the smallest of them."""

from collections.abc import Callable

from torch import nn


class Quirks(dict[str, tuple[Callable[[], nn.Module], object]]):
    """Models by name, each with its inputs; a decorator adds one."""

    def __call__(self, inputs):
        def register(make):
            self[make.__name__] = (make, inputs)
            return make

        return register


class Lin(nn.Module):
    """A module with one linear layer, for quirks that only need a weight."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)
