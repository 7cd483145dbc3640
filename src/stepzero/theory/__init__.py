"""The mathematics of initialisation, numbers in and numbers out: fans, Gaussian integrals, activations, gains."""

from typing import TYPE_CHECKING, Any

from ._activations import unit as unit
from ._elementwise import Elementwise as Elementwise
from ._fans import FAN_MODES as FAN_MODES
from ._fans import FanMode as FanMode
from ._fans import FanPattern as FanPattern
from ._fans import Fans as Fans
from ._fans import fan_pattern as fan_pattern
from ._fans import fans as fans
from ._fans import tied as tied
from ._gains import Activation as Activation
from ._gains import Stability as Stability
from ._gains import activation as activation
from ._gains import gain as gain
from ._gaussian import expect as expect
from ._gaussian import expect_pair as expect_pair
from ._gaussian import moments as moments
from ._gaussian import nodes as nodes
from ._layers import layer_weights as layer_weights
from ._layers import read_layer as read_layer
from ._units import Unit as Unit
from ._vocabulary import ACTIVATIONS as ACTIVATIONS
from ._vocabulary import ALIASES as ALIASES

if TYPE_CHECKING:
    from ._explain import Explanation as Explanation
    from ._explain import explain as explain


def __getattr__(name: str) -> Any:
    """Explanations bring the reports along: whoever asks for a gain should not wait for them."""
    if name not in ("Explanation", "explain"):
        raise AttributeError(f"module 'stepzero.theory' has no attribute {name!r}")
    from . import _explain

    return getattr(_explain, name)
