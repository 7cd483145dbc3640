"""JAX's activations, as functions: measured in double precision, and equal to the names for them."""

import pytest

from stepzero.theory import activation

jax = pytest.importorskip("jax", reason="JAX is an extra")

NAMED = {
    "gelu": "gelu_tanh",  # JAX's default is the tanh formula
    "silu": "silu", "relu": "relu", "relu6": "relu6", "leaky_relu": "leaky_relu", "elu": "elu", "celu": "celu", "selu": "selu",
    "hard_swish": "hard_swish", "hard_tanh": "hard_tanh", "hard_sigmoid": "hard_sigmoid", "log_sigmoid": "log_sigmoid",
    "soft_sign": "soft_sign", "softplus": "softplus", "squareplus": "squareplus", "sparse_plus": "sparse_plus",
    "sparse_sigmoid": "sparse_sigmoid", "sigmoid": "sigmoid", "tanh": "tanh", "mish": "mish", "identity": "identity",
}  # fmt: skip


@pytest.mark.parametrize(("function", "name"), NAMED.items())
def test_a_function_of_jax_has_the_gains_of_its_name(function, name):
    found, known = activation(getattr(jax.nn, function)), activation(name)
    assert found.gain == pytest.approx(known.gain, rel=1e-10)
    assert found.gradient_gain == pytest.approx(known.gradient_gain, rel=1e-10)
    assert found.stability.verdict == known.stability.verdict


def test_compiled_functions_too_and_jaxs_own_precision_stays_as_it_was():
    assert activation(jax.jit(jax.nn.mish)).gain == pytest.approx(activation("mish").gain, rel=1e-10)
    assert jax.numpy.zeros(1).dtype == "float32"
