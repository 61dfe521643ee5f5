"""Images of different sizes in one array."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_jax.ops.valid import (
    after_stride,
    flip_valid,
    global_average,
    softmax_over_positions,
    valid_mask,
    valid_max,
    valid_min,
    zero_outside,
)

SIZES = jnp.array([[2, 3], [1, 1], [3, 4]])


def test_mask_by_hand():
    wanted = np.array(
        [
            [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]],
            [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
            [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]],
        ],
        bool,
    )
    np.testing.assert_array_equal(valid_mask(SIZES, 3, 4)[..., 0], wanted)


def test_zero_outside_removes_even_nan():
    x = jnp.full((3, 3, 4, 2), jnp.nan)
    inside = valid_mask(SIZES, 3, 4)
    found = zero_outside(jnp.where(inside, 7.0, x), SIZES)
    np.testing.assert_array_equal(found, np.where(inside, 7.0, np.zeros((3, 3, 4, 2))))


def test_without_sizes_nothing_is_padding():
    x = jnp.arange(24.0).reshape(1, 3, 4, 2)
    assert zero_outside(x, None) is x
    assert after_stride(None, 8) is None
    np.testing.assert_allclose(global_average(x, None), [[11, 12]], rtol=1e-6)


def test_size_after_stride_is_rounded_up():
    np.testing.assert_array_equal(
        after_stride(jnp.array([[1, 8], [9, 16], [17, 7]]), 8), [[1, 1], [2, 2], [3, 1]]
    )


@given(st.integers(1, 500), st.integers(1, 3), st.integers(1, 3))
def test_two_strides_are_one(n, first, second):
    sizes = np.array([[n, n]])
    assert (after_stride(after_stride(sizes, first), second) == after_stride(sizes, first * second)).all()


def test_average_is_of_the_picture_only():
    x = np.full((2, 2, 3, 1), 1000.0, np.float32)
    x[0, :2, :2, 0] = [[1, 2], [3, 6]]
    x[1, :1, :3, 0] = [[1, 2, 6]]
    np.testing.assert_allclose(global_average(x, jnp.array([[2, 2], [1, 3]])), [[3], [3]], rtol=1e-6)


def test_extremes_are_of_the_picture_only():
    x = np.array([[[-5, -2, 9]], [[-7, 3, 4]]], np.float32)[..., None]
    sizes = jnp.array([[1, 2], [1, 3]])
    assert valid_max(x, sizes).ravel().tolist() == [-2, 4]
    assert valid_min(-x, sizes).ravel().tolist() == [2, -4]
    assert valid_max(x, None).ravel().tolist() == [9, 4]
    assert valid_min(x, None).ravel().tolist() == [-5, -7]


def test_softmax_over_the_positions_of_each_picture():
    x = np.zeros((2, 2, 2, 1), np.float32)
    x[0, 0, 1] = np.log(3)
    x[0, 1] = 50  # outside
    found = softmax_over_positions(x, jnp.array([[1, 2], [2, 2]]))[..., 0]
    np.testing.assert_allclose(found[0], [[0.25, 0.75], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(found[1], 0.25, rtol=1e-6)
    np.testing.assert_allclose(softmax_over_positions(x, None).sum((1, 2)), 1, rtol=1e-6)


def test_flip_by_hand():
    x = np.array([[1, 2, 3, 99, 98]], np.float32).reshape(1, 1, 5, 1)
    found = flip_valid(x, jnp.array([[1, 3]]))[0, 0, :, 0]
    np.testing.assert_array_equal(found[:3], [3, 2, 1])
    assert sorted(found[3:].tolist()) == [98, 99]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=2, max_size=2), st.integers(0, 99))
def test_flip_mirrors_each_picture_and_twice_is_nothing(widths, seed):
    x = np.random.default_rng(seed).standard_normal((2, 2, 7, 3)).astype(np.float32)
    sizes = np.array([[2, w] for w in widths])
    once = flip_valid(x, sizes)
    for before, after, w in zip(x, once, widths, strict=True):
        np.testing.assert_array_equal(after[:, :w], before[:, :w][:, ::-1])
        np.testing.assert_array_equal(np.sort(after[:, w:], 1), np.sort(before[:, w:], 1))
    np.testing.assert_array_equal(flip_valid(once, sizes), x)
