"""The RULES table: every op whose moments are known, families first, on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from stepzero.moments import _activations as A
from stepzero.moments import _joins as J
from stepzero.moments import _moves as M
from stepzero.moments import _random as N
from stepzero.moments._call import Rule
from stepzero.moments._norms import NORMS
from stepzero.moments._pools import POOLS
from stepzero.moments._weights import OPERATORS, weighted

_STAY = "alias contiguous detach clone to _to_copy lift_fresh type_as cpu float double half requires_grad"
_RESHAPE = "view reshape flatten unflatten _unsafe_view squeeze unsqueeze view_as reshape_as atleast_2d"
_PERMUTE = "permute transpose t movedim moveaxis swapaxes swapdims numpy_T adjoint mT"
_CUT = "slice narrow chunk split split_with_sizes tensor_split index_select unsafe_chunk unsafe_split"
_SHIFT = "roll flip pixel_shuffle pixel_unshuffle channel_shuffle"
_POINTWISE = (
    "abs acos asin atan celu clamp clamp_max clamp_min cos elu erf erfc exp expm1 gelu hardshrink hardsigmoid "
    "hardswish hardtanh leaky_relu log log1p log2 log_sigmoid logit mish nan_to_num neg pow reciprocal relu relu6 "
    "rsqrt selu sigmoid silu sin sinh softplus softshrink softsign special_erf special_expit sqrt square tan tanh "
    "threshold"
)

MOVES = frozenset(f"{_STAY} {_RESHAPE} {_PERMUTE} {_CUT} {_SHIFT} select unbind expand expand_as broadcast_to".split())

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        # data movement
        **dict.fromkeys(_STAY.split(), M.moves(M.same)),
        **dict.fromkeys(_RESHAPE.split(), M.moves(M.reshaped)),
        **dict.fromkeys(_PERMUTE.split(), M.moves(M.permuted)),
        **dict.fromkeys(_CUT.split(), M.moves(M.same)),
        **dict.fromkeys(_SHIFT.split(), M.moves(M.same)),
        **dict.fromkeys(("select", "unbind"), M.moves(M.dropped)),
        **dict.fromkeys(("expand", "expand_as", "broadcast_to"), M.expanded),
        **dict.fromkeys(("repeat", "tile"), M.repeated),
        **dict.fromkeys(("pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"), M.padded),
        **dict.fromkeys(("cat", "concat", "concatenate", "stack"), M.joined),
        "alias_update": M.updated,
        # weights
        **dict.fromkeys((op for op in OPERATORS if op not in {"matmul"}), weighted),
        # activations
        **dict.fromkeys(_POINTWISE.split(), A.pointwise),
        "glu": J.glu,
        "prelu": A.prelu,
        "rrelu": A.rrelu,
        # joins
        **dict.fromkeys(("add", "sub", "rsub"), J.binary(J.add)),
        **dict.fromkeys(("mul", "multiply"), J.binary(J.multiply)),
        **dict.fromkeys(("div", "divide", "true_divide"), J.binary(J.divide)),
        **dict.fromkeys(("maximum", "minimum"), J.binary(J.larger)),
        "where": J.where,
        # normalisation
        **NORMS,
        # pooling, resizing, reductions
        **POOLS,
        # noise
        **dict.fromkeys(("dropout", "alpha_dropout"), N.dropout),
        "feature_dropout": N.feature_dropout,
        "bernoulli": N.bernoulli,
    }
)
