"""Exponential moving average of weights."""

import jax
import jax.numpy as jnp
import numpy as np

from wsss_jax.training.moving_average import moving_average


def test_two_steps_by_hand():
    average = {"w": jnp.array([1.0, 10.0]), "inner": {"b": jnp.array(4.0)}}
    for weights in ({"w": [3.0, 20.0], "inner": {"b": 0.0}}, {"w": [5.0, 40.0], "inner": {"b": 8.0}}):
        weights = jax.tree.map(jnp.array, weights, is_leaf=lambda x: isinstance(x, list))
        average = jax.jit(moving_average)(average, weights, 0.75)
    np.testing.assert_allclose(average["w"], [0.5625 + 0.5625 + 1.25, 5.625 + 3.75 + 10], rtol=1e-6)
    np.testing.assert_allclose(average["inner"]["b"], 0.5625 * 4 + 0 + 2, rtol=1e-6)


def test_without_decay_the_average_is_the_weights():
    found = moving_average({"w": jnp.array(9.0)}, {"w": jnp.array(2.0)}, 0.0)
    assert found["w"] == 2
