"""The front desk: every public name, and the module that it lives in.

Names are resolved on first use (PEP 562), so `import stepzero` loads neither torch nor jax nor numba.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names again, for type checkers and editors; a test holds the two lists against each other
    from stepzero import errors as errors
    from stepzero import init as init
    from stepzero import laws as laws
    from stepzero import streams as streams
    from stepzero import theory as theory
    from stepzero.checking import LINTS as LINTS
    from stepzero.checking import Check as Check
    from stepzero.checking import Finding as Finding
    from stepzero.checking import Findings as Findings
    from stepzero.checking import check as check
    from stepzero.checking import lint as lint
    from stepzero.errors import StepZeroError as StepZeroError
    from stepzero.filling import Receipt as Receipt
    from stepzero.filling import diff as diff
    from stepzero.filling import materialize_ as materialize_
    from stepzero.filling import save as save
    from stepzero.laws import Constant as Constant
    from stepzero.laws import Copy as Copy
    from stepzero.laws import DeltaOrthogonal as DeltaOrthogonal
    from stepzero.laws import Dirac as Dirac
    from stepzero.laws import Identity as Identity
    from stepzero.laws import Kaiming as Kaiming
    from stepzero.laws import Kept as Kept
    from stepzero.laws import LeCun as LeCun
    from stepzero.laws import Mapped as Mapped
    from stepzero.laws import Normal as Normal
    from stepzero.laws import Norms as Norms
    from stepzero.laws import Orthogonal as Orthogonal
    from stepzero.laws import Parts as Parts
    from stepzero.laws import Sparse as Sparse
    from stepzero.laws import Sphere as Sphere
    from stepzero.laws import TruncatedNormal as TruncatedNormal
    from stepzero.laws import Uniform as Uniform
    from stepzero.laws import Values as Values
    from stepzero.laws import VarianceScaling as VarianceScaling
    from stepzero.laws import Xavier as Xavier
    from stepzero.laws import delta_orthogonal as delta_orthogonal
    from stepzero.laws import dirac as dirac
    from stepzero.laws import identity as identity
    from stepzero.laws import kaiming_normal as kaiming_normal
    from stepzero.laws import kaiming_uniform as kaiming_uniform
    from stepzero.laws import lecun_normal as lecun_normal
    from stepzero.laws import lecun_uniform as lecun_uniform
    from stepzero.laws import normal as normal
    from stepzero.laws import orthogonal as orthogonal
    from stepzero.laws import recipe as recipe
    from stepzero.laws import sparse as sparse
    from stepzero.laws import truncated_normal as truncated_normal
    from stepzero.laws import uniform as uniform
    from stepzero.laws import variance_scaling as variance_scaling
    from stepzero.laws import xavier_normal as xavier_normal
    from stepzero.laws import xavier_uniform as xavier_uniform
    from stepzero.moments import RULES as RULES
    from stepzero.network import build as build
    from stepzero.planning import Entry as Entry
    from stepzero.planning import Plan as Plan
    from stepzero.planning import initialize_ as initialize_
    from stepzero.planning import plan as plan
    from stepzero.theory import Activation as Activation
    from stepzero.theory import Explanation as Explanation
    from stepzero.theory import Fans as Fans
    from stepzero.theory import activation as activation
    from stepzero.theory import explain as explain
    from stepzero.theory import fans as fans
    from stepzero.theory import gain as gain

__version__ = "0.1.0.dev0"

_HOMES = MappingProxyType(
    {
        # rooms
        "errors": "stepzero.errors",
        "init": "stepzero.init",
        "laws": "stepzero.laws",
        "streams": "stepzero.streams",
        "theory": "stepzero.theory",
        # plans
        "Entry": "stepzero.planning",
        "Plan": "stepzero.planning",
        "Receipt": "stepzero.filling",
        "build": "stepzero.network",
        "Check": "stepzero.checking",
        "check": "stepzero.checking",
        "Finding": "stepzero.checking",
        "Findings": "stepzero.checking",
        "LINTS": "stepzero.checking",
        "lint": "stepzero.checking",
        "initialize_": "stepzero.planning",
        "plan": "stepzero.planning",
        "RULES": "stepzero.moments",
        "diff": "stepzero.filling",
        "materialize_": "stepzero.filling",
        "save": "stepzero.filling",
        # arrays
        "delta_orthogonal": "stepzero.laws",
        "dirac": "stepzero.laws",
        "identity": "stepzero.laws",
        "kaiming_normal": "stepzero.laws",
        "kaiming_uniform": "stepzero.laws",
        "lecun_normal": "stepzero.laws",
        "lecun_uniform": "stepzero.laws",
        "normal": "stepzero.laws",
        "orthogonal": "stepzero.laws",
        "sparse": "stepzero.laws",
        "truncated_normal": "stepzero.laws",
        "uniform": "stepzero.laws",
        "variance_scaling": "stepzero.laws",
        "xavier_normal": "stepzero.laws",
        "xavier_uniform": "stepzero.laws",
        # numbers
        "Activation": "stepzero.theory",
        "Fans": "stepzero.theory",
        "Explanation": "stepzero.theory",
        "activation": "stepzero.theory",
        "explain": "stepzero.theory",
        "fans": "stepzero.theory",
        "gain": "stepzero.theory",
        # laws
        "Constant": "stepzero.laws",
        "Copy": "stepzero.laws",
        "DeltaOrthogonal": "stepzero.laws",
        "Dirac": "stepzero.laws",
        "Identity": "stepzero.laws",
        "Kept": "stepzero.laws",
        "Mapped": "stepzero.laws",
        "Normal": "stepzero.laws",
        "Norms": "stepzero.laws",
        "Orthogonal": "stepzero.laws",
        "Parts": "stepzero.laws",
        "Sparse": "stepzero.laws",
        "Sphere": "stepzero.laws",
        "TruncatedNormal": "stepzero.laws",
        "Uniform": "stepzero.laws",
        "Values": "stepzero.laws",
        # recipes
        "Kaiming": "stepzero.laws",
        "LeCun": "stepzero.laws",
        "VarianceScaling": "stepzero.laws",
        "Xavier": "stepzero.laws",
        "recipe": "stepzero.laws",
        # errors
        "StepZeroError": "stepzero.errors",
    }
)

__all__ = tuple(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'stepzero' has no attribute {name!r}")
    try:
        module = import_module(home)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):
            raise
        message = f"stepzero.{name} needs {error.name}, which is not installed. Run: pip install 'stepzero[torch]'"
        raise ModuleNotFoundError(message, name=error.name) from None
    found = module if home == f"stepzero.{name}" else getattr(module, name)
    globals()[name] = found  # the next look-up does not come here
    return found


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__"])
