"""Pixel correlation: the formula in float64, and blocks that change nothing but memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.networks import relative
from wsss_jax.ops.correlation import correlate, unit_vectors


def by_formula(maps, features):
    """One image, all pairs at once."""
    h, w, C = maps.shape
    n, f = maps.reshape(-1, C).astype(np.float64), features.reshape(h * w, -1).astype(np.float64)
    f = f / (np.linalg.norm(f, axis=1, keepdims=True) + 1e-5)
    alike = np.maximum(f @ f.T, 0)
    return (n.T @ (alike / (alike.sum(0, keepdims=True) + 1e-5))).T.reshape(maps.shape)


def noise(seed, h, w):
    rng = np.random.default_rng(seed)
    return (
        rng.random((2, h, w, 3), np.float32),
        rng.standard_normal((2, h, w, 5)).astype(np.float32),
    )


jitted = jax.jit(correlate, static_argnames="block_elements")  # compiles for each shape and block once


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(1, 1), (3, 5)]), st.sampled_from([1, 60, 10**6]), st.integers(0, 99))
def test_any_block_gives_the_formulas_values(size, elements, seed):
    maps, features = noise(seed, *size)
    features[0, 0, 0] = 0  # alike to nothing
    found = jitted(maps, features, block_elements=elements)
    wanted = np.stack([by_formula(*pair) for pair in zip(maps, features, strict=True)])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("elements", [1, 60])
def test_gradient_does_not_depend_on_the_blocks(elements):
    maps, features = noise(0, 4, 5)
    weights = jnp.arange(maps.size, dtype=jnp.float32).reshape(maps.shape) / maps.size

    def value(maps, features, elements):
        return (correlate(maps, features, block_elements=elements) * weights).sum()

    gradient = jax.jit(jax.grad(value, (0, 1)), static_argnums=2)
    found = gradient(maps, features, elements)
    for ours, wanted in zip(found, gradient(maps, features, 10**9), strict=True):
        assert relative(ours, wanted) < 1e-5 and np.abs(wanted).max() > 1e-3


def test_positions_of_two_kinds_exchange_nothing():
    """Two orthogonal features: each position gets the mean over its own kind."""
    kind = np.array([[0, 1, 0], [1, 1, 0]])
    maps = np.array([[3.0, 10, 6], [20, 0, 0]], np.float32)[None, :, :, None]
    features = 7 * np.eye(2, dtype=np.float32)[kind][None]
    wanted = np.where(kind == 0, 3, 10)
    np.testing.assert_allclose(correlate(maps, features)[0, :, :, 0], wanted, rtol=1e-4)


def test_vectors_of_zeros_stay_and_have_a_gradient():
    x = jnp.array([[0.0, 0], [3, 4]])
    np.testing.assert_allclose(unit_vectors(x), [[0, 0], [0.6, 0.8]], rtol=1e-4)
    grad = jax.grad(lambda x: (unit_vectors(x) * jnp.array([1.0, 2])).sum())(x)
    assert np.isfinite(grad).all()
    np.testing.assert_allclose(grad[0], [1e5, 2e5], rtol=1e-5)  # x / (0 + 1e-5): the length does not count
