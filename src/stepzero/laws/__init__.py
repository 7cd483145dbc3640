"""Distributions as values, and the named recipes that make them from fans."""

from ._base import Law as Law
from ._elementwise import Constant as Constant
from ._elementwise import Kept as Kept
from ._elementwise import Normal as Normal
from ._elementwise import Sparse as Sparse
from ._elementwise import TruncatedNormal as TruncatedNormal
from ._elementwise import Uniform as Uniform
from ._matrices import DeltaOrthogonal as DeltaOrthogonal
from ._matrices import Dirac as Dirac
from ._matrices import Identity as Identity
from ._matrices import Orthogonal as Orthogonal
from ._plain import LAWS as LAWS
from ._plain import from_dict as from_dict
from ._recipes import DISTRIBUTIONS as DISTRIBUTIONS
from ._recipes import RECIPES as RECIPES
from ._recipes import Distribution as Distribution
from ._recipes import Kaiming as Kaiming
from ._recipes import LeCun as LeCun
from ._recipes import Recipe as Recipe
from ._recipes import VarianceScaling as VarianceScaling
from ._recipes import Xavier as Xavier
from ._recipes import recipe as recipe
