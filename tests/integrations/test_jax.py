import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepzero import streams
from stepzero.errors import LawError, SeedError
from stepzero.laws import Constant, Kept, Normal, Orthogonal, TruncatedNormal, Uniform
from stepzero.streams import Region

jax = pytest.importorskip("jax")
jax_draw = pytest.importorskip("stepzero.integrations").jax_draw

CENTRED = (Normal(0.3), Uniform(-1.0, 1.0), TruncatedNormal(0.5), TruncatedNormal(1.0, -1.0, 1.0))
FORMATS = ("float32", "float16", "bfloat16", "complex64")


def bits(array):
    return np.asarray(array).tobytes()


@settings(max_examples=25)
@given(
    law=st.sampled_from(CENTRED),
    corner=st.tuples(st.integers(0, 2**31 - 9), st.integers(0, 2**32 - 20)),
    step=st.integers(1, 2),
    dtype=st.sampled_from(FORMATS),
)
def test_jax_draws_the_bits_of_numpy_at_any_offset(law, corner, step, dtype):
    shape = (2**31, 2**32)
    region = Region(shape)[corner[0] : corner[0] + 8 : step, corner[1] : corner[1] + 15]
    kind = streams.storage(dtype)
    expected = np.empty(region.shape, kind.numpy)
    streams.fill(expected, law, 5, "w", region, dtype=dtype, engine="numpy")
    assert bits(jax_draw(law, shape, 5, "w", dtype, index=region)) == expected.tobytes()


@pytest.mark.parametrize("law", [*CENTRED, Normal(0.3, 0.1), Orthogonal(1.0), Constant(2.0), Normal(0.0)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_whole_tensors_of_every_law_are_those_of_numpy(law, dtype):
    drawn = jax_draw(law, (33, 20), 1, "w", dtype)
    assert (drawn.shape, str(drawn.dtype)) == ((33, 20), dtype)
    assert bits(drawn) == streams.draw(law, (33, 20), 1, "w", dtype).tobytes()


def test_a_sharded_array_has_the_same_bits():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("rows",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    drawn = jax_draw(Normal(1.0), (16, 3), 0, "w", "bfloat16", sharding=sharding)
    assert drawn.sharding == sharding
    assert bits(drawn) == streams.draw(Normal(1.0), (16, 3), 0, "w", "bfloat16").tobytes()


@pytest.mark.parametrize("shape", [(), (0, 3), (1,)])
def test_scalars_and_empty_arrays_are_drawn(shape):
    assert jax_draw(Normal(1.0), shape, 0, "w").shape == shape


@pytest.mark.parametrize(
    ("law", "seed", "dtype", "error", "message"),
    [
        (Normal(1.0), -1, "float32", SeedError, "out of range"),
        (Kept(), 0, "float32", LawError, "no values to draw"),
        (Normal(1.0), 0, "float64", LawError, "64-bit mode"),
        (Normal(1e-9), 0, "float16", LawError, "cannot hold"),
    ],
)
def test_bad_input_is_refused(law, seed, dtype, error, message):
    with pytest.raises(error, match=message):
        jax_draw(law, (3, 3), seed, "w", dtype)
