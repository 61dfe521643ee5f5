"""Bilinear resizing: values computed by hand with PyTorch's formulas, and images in padded arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_jax.ops.resize import (
    interpolation_matrix,
    resize_bilinear,
    resize_twice,
    resize_valid,
    resized_mean,
)

SIDES = st.integers(1, 8)


def row(values, n, **options):
    """Resizes one row of values to n."""
    x = jnp.array(values, jnp.float32).reshape(1, 1, -1, 1)
    return np.asarray(resize_bilinear(x, (1, n), **options))[0, 0, :, 0]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0, 1], [0, 0.25, 0.75, 1]),  # centres at -0.25, 0.25, 0.75, 1.25, clipped to 0..1
        ([0, 1, 2, 3], [0.5, 2.5]),  # no antialiasing: only the two nearest samples count
        ([0, 8, 0, 0], [4]),  # the centre, 1.5, lies between the second and third
        ([0, 3, 6, 9, 12], [1, 6, 11]),  # centres at 1/3, 2, 11/3
        ([5], [5, 5, 5]),
        ([1, 2, 4], [1, 2, 4]),
    ],
)
def test_half_pixel_values(values, wanted):
    np.testing.assert_allclose(row(values, len(wanted)), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0, 3], [0, 1, 2, 3]),
        ([0, 1, 2, 3], [0, 3]),
        ([0, 4, 0], [0, 2, 4, 2, 0]),
        ([7, 1, 2], [7]),  # one output sample is the first input sample
        ([5], [5, 5, 5]),
    ],
)
def test_align_corners_values(values, wanted):
    np.testing.assert_allclose(row(values, len(wanted), align_corners=True), wanted, rtol=1e-6, atol=1e-6)


def test_axes_and_channels_are_independent():
    x = np.zeros((2, 2, 2, 2), np.float32)
    x[0, :, :, 0] = [[0, 4], [8, 12]]
    x[1, :, :, 1] = [[0, 4], [8, 12]]
    found = np.asarray(resize_bilinear(x, (2, 4)))
    wanted = [[0, 1, 3, 4], [8, 9, 11, 12]]
    np.testing.assert_allclose(found[0, :, :, 0], wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[1, :, :, 1], wanted, rtol=1e-6, atol=1e-6)
    assert not found[0, :, :, 1].any() and not found[1, :, :, 0].any()


def by_loop(values, n, align_corners=False):
    """One axis, sample by sample; each value may be a number or a row."""
    out, last = [], len(values) - 1
    for i in range(n):
        if align_corners:
            s = i * last / (n - 1) if n > 1 else 0.0
        else:
            s = min(max((i + 0.5) * len(values) / n - 0.5, 0.0), last)
        low = int(np.floor(s + 1e-9))
        out.append(values[low] * (1 - (s - low)) + values[min(low + 1, last)] * (s - low))
    return out


traced_matrix = jax.jit(interpolation_matrix, static_argnums=(2, 3), static_argnames="align_corners")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=12), st.integers(1, 20), st.booleans())
def test_any_sizes_agree_with_the_formula(values, n, align_corners):
    matrix = np.asarray(traced_matrix(len(values), n, 20, 12, align_corners=align_corners))
    assert not matrix[n:].any() and not matrix[:, len(values) :].any()
    np.testing.assert_allclose(matrix[:n].sum(1), 1, atol=1e-5)
    wanted = by_loop(values, n, align_corners)
    found = matrix[:n, : len(values)] @ np.array(values, np.float32)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


padded = jax.jit(
    lambda x, sizes, new_sizes, align_corners: resize_valid(
        x, sizes, new_sizes, (10, 11), align_corners=align_corners
    ),
    static_argnums=3,
)
twice = jax.jit(resize_twice, static_argnums=(4, 5))
mean = jax.jit(resized_mean, static_argnums=3)


def whole(x, size, align_corners=False):
    """[H, W, C] as float64[*size, C]; in NumPy, for XLA would compile a program for each pair of sizes."""
    rows = np.stack(by_loop(x.astype(np.float64), size[0], align_corners))
    return np.stack(by_loop(rows.swapaxes(0, 1), size[1], align_corners), axis=1)


def test_any_image_is_resized_along_both_axes():
    x = np.random.default_rng(0).standard_normal((1, 5, 4, 2)).astype(np.float32)
    for align_corners in (False, True):
        found = resize_bilinear(x, (3, 7), align_corners=align_corners)
        np.testing.assert_allclose(found[0], whole(x[0], (3, 7), align_corners), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(SIDES, SIDES),
    st.tuples(SIDES, SIDES),
    st.tuples(SIDES, SIDES),
    st.booleans(),
    st.integers(0, 9),
)
def test_padded_resize_is_that_of_the_picture_alone(first, second, new, align_corners, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 8, 9, 2)).astype(np.float32)  # also outside: it must not matter
    found = np.array(padded(x, np.array([first, second]), np.array([new, new]), align_corners))
    for picture, (h, w), resized in zip(x, (first, second), found, strict=True):
        wanted = whole(picture[:h, :w], new, align_corners)
        np.testing.assert_allclose(resized[: new[0], : new[1]], wanted, atol=1e-5)
        resized[: new[0], : new[1]] = 0
        assert not resized.any()


@settings(max_examples=10, deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.integers(0, 9))
def test_two_resizes_in_one_are_those_one_after_the_other(size, middle, new, seed):
    x = np.random.default_rng(seed).standard_normal((1, 8, 9, 2)).astype(np.float32)
    sizes = (np.array([n]) for n in (size, middle, new))
    found = np.array(twice(x, *sizes, (8, 9), (10, 11)))[0]
    first = whole(x[0, : size[0], : size[1]], middle, align_corners=True)
    np.testing.assert_allclose(found[: new[0], : new[1]], whole(first, new), atol=1e-5)
    found[: new[0], : new[1]] = 0
    assert not found.any()


@settings(max_examples=10, deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.integers(0, 9))
def test_mean_after_resizing_needs_no_resizing(size, new, seed):
    x = np.random.default_rng(seed).standard_normal((1, 8, 9, 2)).astype(np.float32)
    found = mean(x, np.array([size]), np.array([new]), (10, 11))[0]
    wanted = whole(x[0, : size[0], : size[1]], new, align_corners=True).mean((0, 1))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_gradient_is_the_transpose():
    x = jnp.ones((1, 1, 2, 1))
    grad = jax.grad(
        lambda x: (resize_bilinear(x, (1, 4)) * jnp.array([1.0, 2, 3, 4])[None, None, :, None]).sum()
    )(x)
    np.testing.assert_allclose(
        grad[0, 0, :, 0], [1 + 2 * 0.75 + 3 * 0.25, 2 * 0.25 + 3 * 0.75 + 4], atol=1e-6
    )


def test_type_is_kept():
    assert resize_bilinear(jnp.ones((1, 2, 2, 1), jnp.bfloat16), (3, 3)).dtype == jnp.bfloat16
