"""What an explanation is about: a weight, its fans, the activation after it, and the std that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ._fans import Fans
from ._gains import Activation
from ._weights import Weight


@dataclass(frozen=True, slots=True)
class Chain:
    """What an explanation is about, and the numbers that follow from it."""

    weight: Weight
    fans: Fans
    activation: Activation
    mode: str
    distribution: str
    torch_layer: bool

    @property
    def fan(self) -> float:
        """The chosen fan."""
        return self.fans.of(self.mode)

    @property
    def std(self) -> float:
        """gain/√fan."""
        return self.activation.gain / math.sqrt(self.fan)

    @property
    def backward(self) -> bool:
        """Whether the backward pass is held."""
        return self.mode == "fan_out"
