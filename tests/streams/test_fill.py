import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepzero import streams
from stepzero.errors import LawError, SeedError
from stepzero.laws import (
    Constant,
    Copy,
    DeltaOrthogonal,
    Dirac,
    Identity,
    Kept,
    Mapped,
    Normal,
    Norms,
    Orthogonal,
    Parts,
    Sparse,
    Sphere,
    TruncatedNormal,
    Uniform,
    Values,
)
from stepzero.streams import Region

DTYPES = ("float32", "float64", "float16", "bfloat16", "complex64", "complex128")
ELEMENTWISE = (Normal(0.5), Normal(0.5, 1.0), Uniform(-0.3, 0.3), Uniform(0.1, 0.7), TruncatedNormal(0.02))
MATRICES = (Orthogonal(1.5), Orthogonal(1.0, 2), Sparse(0.3, 0.1), Identity(2.0), Constant(0.25))
KERNELS = (DeltaOrthogonal(1.0), Dirac(2), Orthogonal(1.0))
CASES = [(law, (8, 6)) for law in ELEMENTWISE + MATRICES] + [(law, (8, 4, 3, 3)) for law in KERNELS + ELEMENTWISE[:1]]
CASES += [(Orthogonal(1.0), (4, 3, 3)), (Orthogonal(1.0, 2), (4, 9))]  # wide
COMPOSED = (
    Parts((((), Normal(0.5, 1.0)), (((2, 5), (1, 3)), Uniform(-0.1, 0.1)), (((0, 1),), Constant(0.0)))),
    Parts.stacked([Normal(0.5), Identity(2.0)], [3, 5]),
    Copy("other", TruncatedNormal(0.02)),
    Copy("other", Parts.stacked([Normal(0.5), Constant(1.0)], [2, 6])),
    Values.of(np.arange(48.0).reshape(8, 6) / 7),
)
CASES += [(law, (8, 6)) for law in COMPOSED]
FUNCTIONS = (
    Mapped(Uniform(-3.0, -1.0), (("exp",), ("clamp", 0.1, None), ("softplus_inverse",))),
    Mapped(Normal(0.5, 1.0), (("clamp", 0.3, 1.2),)),
    Parts((((), Mapped(TruncatedNormal(0.2), (("add", 1.0),))), (((2, 5), (1, 3)), Constant(0.5)))),
)
LENGTHS = (
    (Sphere(2.0), (8, 6)), (Sphere(1.0, 0), (8, 6)), (Sphere(1.0, 1), (8, 4, 3)), (Norms("v", Normal(0.5), (8, 60), 0), (8, 1)),
    (Norms("v", Uniform(0.0, 0.5), (13, 5, 7), 2), (1, 1, 7)), (Norms("v", Orthogonal(2.0), (6, 9), 0), (6,)), (Norms("v", Normal(0.5), (9, 9), None), ()),
)  # fmt: skip
CASES += [*((law, (8, 6)) for law in FUNCTIONS), *LENGTHS]


def at_vector_indices(law, case, engine):
    """Return, as hexadecimal bits, the elements that a vector lists, each filled on its own."""
    found = []
    for i in case["index"]:
        one = np.empty(1, np.float32)
        streams.fill(one, law, case["seed"], case["name"], Region((2**40,))[i : i + 1], engine=engine)
        found.append(f"{one.view(np.uint32)[0]:08x}")
    return found


@pytest.mark.parametrize(
    ("field", "law"),
    [
        ("uniform_bound_1", Uniform(-1.0, 1.0)),
        ("uniform_bound_0.1", Uniform(-0.1, 0.1)),
        ("normal_std_1", Normal(1.0)),
        ("normal_std_0.02", Normal(0.02)),
        ("truncated_std_1_at_2_sigma", TruncatedNormal(TruncatedNormal(1.0).std / TruncatedNormal(1.0).parent_std)),
    ],
)
def test_values_are_those_of_the_specification(vectors, engine, field, law):
    for case in vectors["streams"]:
        assert at_vector_indices(law, case, engine) == case[field]


def test_the_first_65536_values_have_the_published_hash(vectors, engine):
    published = vectors["sha256_first_65536"]
    for field, law in (("normal_std_1", Normal(1.0)), ("uniform_bound_1", Uniform(-1.0, 1.0))):
        values = streams.draw(law, (65536,), published["seed"], published["name"], engine=engine)
        assert hashlib.sha256(values.astype("<f4").tobytes()).hexdigest() == published[field]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("law", "shape"), CASES, ids=str)
def test_any_strided_slice_holds_what_the_whole_tensor_holds_there(law, shape, dtype, engine):
    parts = [part for _, part in law.parts] if isinstance(law, Parts) else [law]
    if dtype.startswith("complex") and any(isinstance(part, streams.REAL) for part in parts):
        with pytest.raises(LawError, match="not defined for complex"):
            streams.draw(law, shape, 3, "w", dtype)
        return
    whole = streams.draw(law, shape, 3, "w", dtype, engine="numpy")
    rng = np.random.default_rng(5)
    for _ in range(4):
        cut = tuple(slice(int(rng.integers(0, n)), n, int(rng.integers(1, 3))) for n in shape)
        part = np.zeros_like(whole[cut], order="F")
        streams.fill(part, law, 3, "w", Region(shape)[cut], dtype=dtype, engine=engine)
        np.testing.assert_array_equal(part, whole[cut])


@settings(max_examples=60, deadline=None)
@given(
    law=st.sampled_from(ELEMENTWISE),
    corner=st.tuples(st.integers(0, 2**20 - 40), st.integers(0, 2**20 - 400)),
    extent=st.tuples(st.integers(1, 40), st.integers(1, 400)),
    step=st.integers(1, 3),
    dtype=st.sampled_from(DTYPES),
)
def test_numba_and_numpy_agree_bit_for_bit_on_rectangles_beyond_two_to_the_32(law, corner, extent, step, dtype):
    pytest.importorskip("numba")
    region = Region((2**20, 2**20))[corner[0] : corner[0] + extent[0], corner[1] : corner[1] + extent[1] : step]
    kind = streams.storage(dtype)
    ours, theirs = np.zeros(region.shape, kind.numpy), np.zeros(region.shape, kind.numpy)
    streams.fill(ours, law, 2**63, "w", region, dtype=dtype, engine="numpy")
    streams.fill(theirs, law, 2**63, "w", region, dtype=dtype, engine="numba")
    assert ours.tobytes() == theirs.tobytes()


@settings(max_examples=40, deadline=None)
@given(
    law=st.sampled_from([Normal(0.5, 1.0), Uniform(-0.3, 0.3), TruncatedNormal(0.02), TruncatedNormal(1.0, -2.5, 2.5)]),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    start=st.integers(0, 9) | st.integers(2**34 - 9000, 2**34),  # the upper half of the counter changes at 2^34
    size=st.integers(1, 14_000),
    skew=st.integers(0, 40),
    streamed=st.booleans(),
)
def test_long_runs_are_the_same_wherever_they_start_and_lie_and_write_nothing_beside(
    law, dtype, start, size, skew, streamed
):
    pytest.importorskip("numba")
    region = Region((2**35,))[start : start + size]
    room = np.full(size + 80, 7, streams.storage(dtype).numpy)
    ours = room[skew : skew + size]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stepzero.streams._writers.BEYOND_CACHES", 0 if streamed else 2**60)
        streams.fill(ours, law, 1, "w", region, dtype=dtype, engine="numba")
    theirs = np.empty(size, room.dtype)
    streams.fill(theirs, law, 1, "w", region, dtype=dtype, engine="numpy")
    assert ours.tobytes() == theirs.tobytes()
    assert (room[:skew] == 7).all()
    assert (room[skew + size :] == 7).all()


@pytest.mark.parametrize(
    "law", [Normal(0.1), TruncatedNormal(1.0, -1.0, 3.0), Uniform(0.0, 1.0), Orthogonal(1.0)], ids=str
)
def test_threads_change_no_bit(law, engine):
    shape = (1100, 600) if not isinstance(law, Orthogonal) else (80, 70)
    one = streams.draw(law, shape, 1, "w", threads=1, engine=engine)
    assert one.tobytes() == streams.draw(law, shape, 1, "w", threads=3, engine=engine).tobytes()


def test_other_formats_are_the_float32_value_rounded_or_widened(engine):
    exact = streams.draw(Normal(0.1, 0.5), (999,), 0, "w", engine=engine)
    half = streams.draw(Normal(0.1, 0.5), (999,), 0, "w", "float16", engine=engine)
    np.testing.assert_array_equal(half, exact.astype(np.float16))
    np.testing.assert_array_equal(streams.draw(Normal(0.1, 0.5), (999,), 0, "w", "float64", engine=engine), exact)
    torch = pytest.importorskip("torch")
    brain = streams.draw(Normal(0.1, 0.5), (999,), 0, "w", "bfloat16", engine=engine)
    assert torch.equal(torch.from_numpy(brain).view(torch.bfloat16), torch.from_numpy(exact).bfloat16())


def test_a_mean_is_added_in_binary64_before_the_last_rounding(engine):
    centred = streams.draw(Normal(0.3), (5000,), 9, "w", engine=engine)
    shifted = streams.draw(Normal(0.3, 0.1), (5000,), 9, "w", engine=engine)
    np.testing.assert_array_equal(shifted, (centred.astype(np.float64) + 0.1).astype(np.float32))


def test_the_halves_of_a_complex_number_are_two_streams_with_half_the_variance(engine):
    values = streams.draw(Normal(1.0, 2.0), (50_000,), 0, "w", "complex64", engine=engine)
    assert abs(values.mean() - 2.0) < 5 * math.sqrt(1 / 50_000)
    for part in (values.real, values.imag):
        assert abs(part.var() - 0.5) < 5 * 0.5 * math.sqrt(2 / 50_000)  # 5 sigma of a normal's sample variance
    assert abs(np.corrcoef(values.real, values.imag)[0, 1]) < 5 / math.sqrt(50_000)


@pytest.mark.parametrize("law", [Normal(0.0), Uniform(0.0, 0.0), TruncatedNormal(0.0)], ids=str)
def test_a_law_without_spread_is_its_mean_and_never_a_negative_zero(law):
    assert not np.signbit(streams.draw(law, (64,), 0, "w")).any()


@pytest.mark.parametrize(("law", "shape"), CASES, ids=str)
def test_moments_promised_by_the_law_are_those_of_its_values(law, shape):
    draws = np.stack([streams.draw(law, shape, seed, "w", "float64") for seed in range(400)])
    mean, second = (np.broadcast_to(moment, shape) for moment in law.moments(shape))
    error = 6 * np.sqrt(np.maximum(second - mean**2, 0) / 400)  # 96 elements at 6 sigma: false alarm 2e-7
    assert (np.abs(draws.mean(0) - mean) <= error + 1e-7).all()
    square = draws**2
    error = 6 * square.std(0) / math.sqrt(400)
    assert (np.abs(square.mean(0) - second) <= error + 1e-6).all()


def test_rows_added_to_a_table_keep_every_old_value():
    small, large = (streams.draw(Normal(1.0), (rows, 7), 0, "embed") for rows in (512, 513))
    np.testing.assert_array_equal(small, large[:512])


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (5, 0), (1,)])
def test_scalars_and_empty_tensors_are_filled(shape):
    assert streams.draw(Normal(1.0), shape, 0, "w").shape == shape


@pytest.mark.parametrize(
    ("law", "dtype", "message"),
    [
        (Normal(1e-9), "float16", "float16 cannot hold Normal"),
        (Normal(1e-4, 1.0), "bfloat16", "lie 0.0078 apart at 1"),
        (Constant(1e-9), "float16", "it would be 0"),
        (Constant(1e6), "float16", "the format ends at"),
        (Normal(2e4), "float16", "the format ends at"),
        (Normal(1e-35), "float32", "out of the range of float32"),
        (Kept(), "float32", "no values to draw"),
        (Normal(1.0), "int8", "holds no random numbers"),
        (Normal(1.0), "uint16", "say dtype='bfloat16'"),
        (Orthogonal(1e-12), "float16", "cannot hold"),
    ],
    ids=str,
)
def test_a_format_that_cannot_hold_the_law_is_refused(law, dtype, message):
    with pytest.raises(LawError, match=message):
        streams.draw(law, (4, 4), 0, "w", dtype)


def test_bad_arrays_are_refused_before_anything_is_written():
    frozen = np.zeros((2, 2), np.float32)
    frozen.flags.writeable = False
    shared = np.lib.stride_tricks.as_strided(np.zeros(2, np.float32), (3, 2), (0, 4))
    zeros = np.zeros((2, 2), np.float32)
    for array, index, error in (
        (frozen, None, "read-only"),
        (shared, None, "share memory"),
        (zeros, Region((4, 4))[:3], "shape"),
    ):
        with pytest.raises(LawError, match=error):
            streams.fill(array, Normal(1.0), 0, "w", index)
    with pytest.raises(SeedError):
        streams.fill(zeros, Normal(1.0), -1, "w")
    with pytest.raises(LawError, match="engine='fast' is unknown"):
        streams.fill(zeros, Normal(1.0), 0, "w", engine="fast")
    assert not zeros.any()


def test_parts_of_one_draw_keep_the_values_of_the_whole_tensor():
    whole = streams.draw(Normal(0.5), (8, 6), 3, "w")
    parts = streams.draw(Parts((((), Normal(0.5)), (((0, 1),), Constant(0.0)))), (8, 6), 3, "w")
    np.testing.assert_array_equal(parts[1:], whole[1:])
    assert not parts[0].any()


def test_matrices_in_boxes_are_matrices_and_differ():
    packed = streams.draw(Parts.stacked([Orthogonal()] * 3, [4] * 3), (12, 4), 3, "in_proj", "float64").reshape(3, 4, 4)
    for matrix in packed:
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(4), atol=1e-6)
    assert abs(packed[0] - packed[1]).max() > 0.1


def test_a_shard_of_matrices_in_boxes_is_that_of_the_whole():
    law = Parts((((), Normal(1.0)), (((2, 8), (1, 5)), Orthogonal())))
    whole = streams.draw(law, (9, 6), 3, "w")
    shard = np.empty((4, 3), np.float32)
    streams.fill(shard, law, 3, "w", Region((9, 6))[1:9:2, 0:6:2])
    np.testing.assert_array_equal(shard, whole[1:9:2, 0:6:2])


def test_a_copy_has_the_values_of_the_other_parameter():
    assert (streams.draw(Copy("a", Normal(1.0)), (5,), 1, "b") == streams.draw(Normal(1.0), (5,), 1, "a")).all()


def test_parts_that_a_format_cannot_hold_are_refused():
    with pytest.raises(LawError, match="cannot hold Constant"):
        streams.draw(Parts.stacked([Constant(1.0), Constant(1e9)], [1, 1]), (2,), 0, "w", "float16")
    with pytest.raises(LawError, match="not defined for complex64"):
        streams.draw(Parts.stacked([Orthogonal()], [2]), (2, 2), 0, "w", "complex64")
    with pytest.raises(LawError, match="cannot hold Values"):
        streams.draw(Values.of(np.array([1e6])), (1,), 0, "w", "float16")


def test_functions_of_draws_are_the_bits_of_the_specification(engine):
    """Made once: exp and log of no library and no vector unit stand behind them."""
    law = Mapped(Uniform(-7.0, -2.0), (("exp",), ("softplus_inverse",), ("tanh",), ("expm1",), ("log1p",)))
    values = streams.draw(law, (4096,), 5, "dt", engine=engine)
    assert hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()[:16] == "75507846d2c71f30"


def test_an_exponential_is_never_zero_or_infinite():
    """The first element whose word is smallest or largest would give it away: the reach of all words is checked instead."""
    law = Mapped(Uniform(0.0, 1.0), (("log",), ("mul", -1.0)))
    least, most = law.of(np.array([1 - 2.0**-25, 2.0**-25]))
    assert 0 < least < most < 18


def test_lengths_are_those_of_what_is_written():
    v = streams.draw(Normal(0.3), (40, 7, 3), 4, "conv.weight_v")
    g = streams.draw(Norms("conv.weight_v", Normal(0.3), (40, 7, 3), 0), (40, 1, 1), 4, "conv.weight_g")
    np.testing.assert_allclose(g.ravel(), np.linalg.norm(v.reshape(40, -1).astype(np.float64), axis=1), rtol=1e-7)


def test_directions_are_of_one_length():
    rows = streams.draw(Sphere(3.0, 1), (5, 8), 1, "w", "float64")
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 3.0, rtol=1e-6)
