"""The convolution layer: its parameters, their first values, and what it passes on to `conv2d`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsss_jax.models.layers import Conv

X = jnp.ones((1, 9, 8, 4))


@pytest.mark.parametrize(
    ("layer", "kernel", "after"),
    [
        (Conv(6), (3, 3, 4, 6), (1, 9, 8, 6)),
        (Conv(6, stride=2, dilation=2), (3, 3, 4, 6), (1, 5, 4, 6)),
        (Conv(6, 7, 4, padding=3), (7, 7, 4, 6), (1, 3, 2, 6)),
        (Conv(6, (1, 7), padding=(0, 3), groups=2), (1, 7, 2, 6), (1, 9, 8, 6)),
        (Conv(4, (7, 1), groups=4), (7, 1, 1, 4), (1, 9, 8, 4)),
        (Conv(6, 4, 4, padding=0), (4, 4, 4, 6), (1, 2, 2, 6)),  # sizes rounded down
    ],
)
def test_shapes(layer, kernel, after):
    y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), X)
    assert y.shape == after
    assert {name: x.shape for name, x in variables["params"].items()} == {"kernel": kernel}


def test_bias_is_added():
    layer = Conv(2, 1, bias=True)
    params = {"kernel": jnp.ones((1, 1, 4, 2)), "bias": jnp.array([10.0, -1.0])}
    np.testing.assert_array_equal(layer.apply({"params": params}, X)[0, 0, 0], [14, 3])


@pytest.mark.parametrize(("groups", "bound"), [(1, (9 * 4) ** -0.5), (2, (9 * 2) ** -0.5)])
def test_kernel_and_bias_start_as_pytorchs(groups, bound):
    """Both uniform within 1 / sqrt(values that one output sees)."""
    params = Conv(2048, 3, groups=groups, bias=True).init(jax.random.key(0), X)["params"]
    for x in params.values():
        assert 0.99 * bound < np.abs(x).max() <= bound
        np.testing.assert_allclose(x.std(), bound / np.sqrt(3), rtol=0.05)
        assert abs(x.mean()) < 0.05 * bound


def test_a_bias_may_start_otherwise():
    params = Conv(3, bias=True, bias_init=jax.nn.initializers.zeros).init(jax.random.key(0), X)["params"]
    np.testing.assert_array_equal(params["bias"], np.zeros(3))


def test_results_have_the_type_asked_for_and_parameters_are_float32():
    y, variables = Conv(2, dtype=jnp.bfloat16, bias=True).init_with_output(jax.random.key(0), X)
    assert y.dtype == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
