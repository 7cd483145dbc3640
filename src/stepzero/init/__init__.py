"""A drop-in for torch.nn.init: every name and signature of it, and what it should have had."""

from torch.nn.init import _calculate_correct_fan as _calculate_correct_fan  # private, but imported by many
from torch.nn.init import _calculate_fan_in_and_fan_out as _calculate_fan_in_and_fan_out

from ._aliases import constant as constant
from ._aliases import dirac as dirac
from ._aliases import eye as eye
from ._aliases import kaiming_normal as kaiming_normal
from ._aliases import kaiming_uniform as kaiming_uniform
from ._aliases import normal as normal
from ._aliases import orthogonal as orthogonal
from ._aliases import sparse as sparse
from ._aliases import uniform as uniform
from ._aliases import xavier_normal as xavier_normal
from ._aliases import xavier_uniform as xavier_uniform
from ._functions import calculate_gain as calculate_gain
from ._functions import constant_ as constant_
from ._functions import dirac_ as dirac_
from ._functions import eye_ as eye_
from ._functions import kaiming_normal_ as kaiming_normal_
from ._functions import kaiming_uniform_ as kaiming_uniform_
from ._functions import normal_ as normal_
from ._functions import ones_ as ones_
from ._functions import orthogonal_ as orthogonal_
from ._functions import sparse_ as sparse_
from ._functions import trunc_normal_ as trunc_normal_
from ._functions import uniform_ as uniform_
from ._functions import xavier_normal_ as xavier_normal_
from ._functions import xavier_uniform_ as xavier_uniform_
from ._functions import zeros_ as zeros_

__all__ = [
    "calculate_gain",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]
