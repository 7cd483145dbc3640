"""The RULES table: every op whose moments are known, families first, on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from stepzero.moments import _activations as A
from stepzero.moments import _assembly as S
from stepzero.moments import _choices as choose
from stepzero.moments import _complex as Z
from stepzero.moments import _gates as G
from stepzero.moments import _joins as J
from stepzero.moments import _moves as M
from stepzero.moments import _weight_norms as W
from stepzero.moments._attention import ATTENTION
from stepzero.moments._call import Rule
from stepzero.moments._complex import NUMBERS
from stepzero.moments._decays import DECAYS
from stepzero.moments._einsum import EINSUM
from stepzero.moments._extents import EXTENTS
from stepzero.moments._loops import CELLS
from stepzero.moments._max_pool import MAX_POOLS
from stepzero.moments._noise import NOISE, SOURCES
from stepzero.moments._norms import NORMS
from stepzero.moments._products import PRODUCTS
from stepzero.moments._ranks import RANKS
from stepzero.moments._recurrent import RECURRENT
from stepzero.moments._reductions import REDUCTIONS
from stepzero.moments._routes import ROUTES
from stepzero.moments._scans import SCANS
from stepzero.moments._smoothing import SMOOTHING
from stepzero.moments._spectra import SPECTRA
from stepzero.moments._steps import STEPS
from stepzero.moments._waves import WAVES
from stepzero.moments._weights import OPERATORS, weighted

_STAY = "alias contiguous detach clone to _to_copy type_as"
_RESHAPE = "view reshape flatten unflatten _unsafe_view squeeze unsqueeze view_as reshape_as"
_PERMUTE = "permute transpose t movedim moveaxis swapaxes swapdims numpy_T adjoint mT matrix_H"
_CUT = "slice narrow chunk split split_with_sizes tensor_split unsafe_chunk unsafe_split"
_SHIFT = "roll flip channel_shuffle native_channel_shuffle"
_SHUFFLE = "pixel_shuffle pixel_unshuffle"
_PAD = "pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d"
_POINTWISE = (
    "abs atan celu clamp clamp_max clamp_min cos elu erf erfc exp expm1 gelu hardshrink hardsigmoid "
    "hardswish hardtanh leaky_relu log log1p log2 log_sigmoid logit mish nan_to_num neg pow reciprocal relu relu6 "
    "rsqrt selu sigmoid silu sin sinh softplus softshrink special_erf special_expit square tan tanh "
    "threshold asinh clip cosh exp2 sign sinc"
)

SPONTANEOUS = ("copy", "fill", "zero", "cos", "sin")  # what they put out may come from no signal at all
MOVES = frozenset(
    f"{_STAY} {_RESHAPE} {_PERMUTE} {_CUT} {_SHIFT} {_SHUFFLE} index_select select unbind expand expand_as broadcast_to".split()
)

_ELEMENTWISE = f"{_POINTWISE} prelu add sub rsub mul multiply div divide true_divide"
KEEP_INPUTS = frozenset(  # ops that treat the inputs of a batch one by one, and whose rules follow them so
    (
        *f"{_STAY} {_RESHAPE} {_CUT} {_PAD} {_ELEMENTWISE} cat concat concatenate".split(),
        *OPERATORS, *NORMS, *MAX_POOLS, *SMOOTHING, *REDUCTIONS, *NOISE,
    )
)  # fmt: skip

_COMPLEX = "mean sum cat concat concatenate stack repeat tile repeat_interleave einsum bmm matmul mm index gather copy alias_update dropout"
_ARITHMETIC = "add sub rsub mul multiply div divide true_divide"

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        # data movement
        **dict.fromkeys(_STAY.split(), M.unchanged),
        **dict.fromkeys(_RESHAPE.split(), M.moves(M.reshaped)),
        **dict.fromkeys(_PERMUTE.split(), M.moves(M.permuted)),
        **dict.fromkeys(_CUT.split(), M.moves(M.same)),
        **dict.fromkeys(_SHIFT.split(), M.moves(M.same)),
        **dict.fromkeys(_SHUFFLE.split(), M.pixel_shuffled),
        **dict.fromkeys(("select", "unbind"), M.moves(M.dropped)),
        **dict.fromkeys(("expand", "expand_as", "broadcast_to"), S.expanded),
        **dict.fromkeys(("repeat", "tile", "repeat_interleave"), S.repeated),
        "index_select": M.selected,
        "unfold": M.moves(M.unfolded),
        "im2col": M.moves(M.patches),
        **dict.fromkeys(("gather", "as_strided", "masked_select", "take", "take_along_dim"), M.gathered),
        **dict.fromkeys(_PAD.split(), S.padded),
        **dict.fromkeys(("cat", "concat", "concatenate"), S.joined),
        "alias_update": S.updated,
        "copy": S.copied,
        "index": S.indexed,
        **dict.fromkeys(("fill", "zero"), S.filled),
        # weights
        **dict.fromkeys(OPERATORS, weighted),
        "mv": W.iterated,
        # activations
        **dict.fromkeys(_POINTWISE.split(), G.pointwise),
        **dict.fromkeys(("acos", "asin"), A.inverse_cosine),
        "sqrt": A.square_root,
        **WAVES,
        **DECAYS,
        "glu": J.glu,
        "prelu": A.prelu,
        "rrelu": A.rrelu,
        # joins
        **dict.fromkeys(("add", "rsub"), J.binary(J.add)),
        **dict.fromkeys(("mul", "multiply"), J.binary(J.multiply)),
        **dict.fromkeys(("div", "divide", "true_divide"), W.divided),
        **dict.fromkeys(("maximum", "minimum", "fmax", "fmin"), J.binary(J.larger)),
        "where": choose.where,
        "masked_fill": choose.masked_fill,
        # attention
        **ATTENTION,
        **PRODUCTS,
        **EINSUM,
        # recurrent layers
        **RECURRENT,
        **CELLS,
        # normalisation
        **NORMS,
        # pooling, resizing, reductions
        **SMOOTHING,
        **MAX_POOLS,
        **REDUCTIONS,
        **EXTENTS,
        **RANKS,
        **STEPS,
        **ROUTES,
        **SCANS,
        # complex numbers
        **NUMBERS,
        **SPECTRA,
        # noise
        **NOISE,
        **SOURCES,
    }
)
COMPLEX: Mapping[str, Rule] = MappingProxyType(
    {
        **{name: RULES[name] for name in (*sorted(MOVES), *_COMPLEX.split(), *NUMBERS, *SPECTRA)},
        **{name: Z.arithmetic(RULES[name]) for name in _ARITHMETIC.split()},
        "abs": Z.modulus,
    }
)
"""Rules that hold for complex numbers as well; moments are those of `_complex`."""
