"""Plans for tests: mappings from names to what filling reads of an entry."""

from dataclasses import dataclass

from stepzero.laws import Constant, Law, Normal


@dataclass(frozen=True)
class Entry:
    shape: tuple[int, ...]
    dtype: str
    law: Law


def plan_for(model, law=None):
    """Return a plan that draws what has two axes or more, and zeroes the rest."""
    law = law or Normal(0.02)
    return {
        name: Entry(tuple(tensor.shape), "float32", law if tensor.ndim > 1 else Constant(0.0))
        for name, tensor in model.named_parameters()
    }
