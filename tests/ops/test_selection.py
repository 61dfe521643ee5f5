"""Means of the largest and smallest values: by hand, against a sort, and against the authors' values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.helpers.golden import GOLDEN
from wsss_jax.ops.selection import hard_example_mean, max_onehot, min_pooling_loss, top_mean

FLOATS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
ROWS = arrays(np.float32, (2, 12), elements=st.one_of(FLOATS, st.sampled_from([0.0, -0.0, 1.0])))

COUNTS = st.sampled_from([1, 5, 12])  # a program each
jitted = jax.jit(top_mean, static_argnums=1)
gradient = jax.jit(jax.grad(lambda x, count: top_mean(x, count).sum()), static_argnums=1)

TINY = np.finfo(np.float32).tiny


@settings(max_examples=150, deadline=None)
@given(ROWS, COUNTS)
@example(np.full((2, 12), TINY), 1)
def test_top_mean_is_that_of_the_sorted_row(x, count):
    wanted = np.sort(x.astype(np.float64), 1)[:, ::-1][:, :count].mean(1)
    # Equal values share a place, and XLA takes a twelfth of the smallest normal number for 0.
    atol = 1e-5 * np.abs(x).max() + 12 * TINY
    np.testing.assert_allclose(jitted(x, count), wanted, rtol=1e-5, atol=atol)


@settings(max_examples=50, deadline=None)
@given(ROWS, COUNTS)
def test_gradient_goes_to_the_largest_only(x, count):
    grad = np.asarray(gradient(x, count))
    np.testing.assert_allclose(grad.sum(1), 1, rtol=1e-5)
    last = np.sort(x, 1)[:, -count][:, None]
    assert not grad[x < last].any()
    np.testing.assert_allclose(grad[x > last], 1 / count, rtol=1e-6)


def test_equal_values_share_the_last_place():
    grad = gradient(np.array([[3.0, 1, 1, 0]], np.float32), 2)
    np.testing.assert_allclose(grad, [[0.5, 0.25, 0.25, 0]], rtol=1e-6)


@pytest.mark.parametrize("count", [0, 4])
def test_more_values_than_there_are(count):
    with pytest.raises(ValueError, match=rf"count is {count}, but must lie in 1..3"):
        top_mean(jnp.zeros((2, 3)), count)


def test_nan_is_not_hidden():
    assert np.isnan(top_mean(jnp.array([[1.0, jnp.nan, 2.0]]), 1)).all()


def test_hard_examples_of_each_image_by_hand():
    errors = jnp.array([[[0.0, 5.0], [1.0, 3.0]], [[8.0, 0.0], [0.0, 0.0]]])
    # Two of four values in each image: (5 + 3) / 2 and (8 + 0) / 2.
    np.testing.assert_allclose(hard_example_mean(errors, 0.5), [4, 4], rtol=1e-6)


def test_min_pooling_by_hand():
    maps = np.zeros((1, 2, 4, 2), np.float32)
    maps[0, :, :, 0] = [[9, 8, 7, 6], [-1, 2, 4, 5]]
    maps[0, 1, 0] = [-1, 1]  # the best channel counts
    # Two of eight positions: 1 and 2.
    np.testing.assert_allclose(min_pooling_loss(maps).mean(), 1.5, rtol=1e-6)


def test_min_pooling_ignores_what_is_negative():
    maps = np.full((1, 2, 2, 1), -3, np.float32)
    assert not np.asarray(min_pooling_loss(maps)).any()
    assert not np.asarray(jax.grad(lambda x: min_pooling_loss(x).sum())(maps)).any()


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, (2, 3, 4), elements=FLOATS))
def test_max_onehot_keeps_the_best_channel_and_no_other(x):
    found = np.asarray(max_onehot(x))
    best = x.max(-1, keepdims=True)
    np.testing.assert_array_equal(found, np.where(x == best, x, 0))
    assert ((found != 0) <= (x == best)).all()


def test_small_functions_are_those_of_the_authors():
    golden = np.load(GOLDEN / "cpn.npz")
    small = golden["small"].transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(max_onehot(small), golden["small_max_onehot"].transpose(0, 2, 3, 1))
    np.testing.assert_allclose(min_pooling_loss(small).mean(), golden["small_min_pool"], rtol=1e-5)
    shifted = small[..., :2] + np.float32(0.3)
    np.testing.assert_allclose(min_pooling_loss(shifted).mean(), golden["small_min_pool_shift"], rtol=1e-5)
