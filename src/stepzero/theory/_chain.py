"""The steps of an explanation in reading order."""

from __future__ import annotations

from stepzero.reporting import Step

from . import _counting as counting
from . import _scaling as scaling
from ._subject import Chain


def steps(chain: Chain) -> tuple[Step, ...]:
    """Return the whole chain, from the shape of the weight to what follows for depth."""
    uneven = chain.fans.fan_in_phases or chain.fans.fan_out_phases
    return (
        counting.matrix(chain),
        counting.fan_in(chain),
        counting.fan_out(chain),
        counting.variance(chain),
        scaling.gain_of(chain),
        scaling.std(chain),
        scaling.bound(chain),
        scaling.other_fan(chain),
        *([scaling.torch_default(chain)] if chain.torch_layer else []),
        scaling.depth(chain),
        *([counting.phases(chain)] if uneven else []),
    )
