"""Max pooling against loops over windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_jax.ops.pool import max_pool, pooled_size


def by_loops(row, window, stride, padding, ceil):
    """PyTorch's definition for one row: windows while they fit (with `ceil`, while they start inside the row
    and its padding in front), the maximum of what is image in each."""
    out, start = [], -padding
    while start + window <= len(row) + padding or (
        ceil and start < len(row) and start - stride + window < len(row) + padding
    ):
        out.append(max(row[i] for i in range(start, start + window) if 0 <= i < len(row)))
        start += stride
    return out


def square_by_loops(x, *how):
    """Of [H, W, ...]: along the rows, then along the columns."""
    return np.apply_along_axis(by_loops, 1, np.apply_along_axis(by_loops, 0, x, *how), *how)


CASES = st.tuples(st.integers(2, 4), st.integers(1, 4), st.integers(0, 2), st.booleans()).filter(
    lambda case: 2 * case[2] <= case[0]
)


pool = jax.jit(max_pool, static_argnums=(1, 2, 3), static_argnames="ceil")


@settings(max_examples=20, deadline=None)
@given(CASES, st.integers(0, 99))
def test_pooling_is_pytorchs(case, seed):
    x = np.random.default_rng(seed).standard_normal((7, 10, 2)).astype(np.float32) - 3  # below padding's 0
    wanted = square_by_loops(x, *case)
    assert tuple(pooled_size(n, *case) for n in (7, 10)) == wanted.shape[:2]
    np.testing.assert_array_equal(pool(x[None], *case[:3], ceil=case[3])[0], wanted)


@pytest.mark.parametrize(("size", "wanted"), [(321, 41), (160, 21), (240, 31)])
def test_sizes_are_those_of_deeplab(size, wanted):
    """A convolution of stride 2, pooling with `ceil`, a convolution of stride 2."""
    pooled = pooled_size((size + 1) // 2, 3, 2, 1, ceil=True)
    assert pooled == (size + 1) // 2 // 2 + 1
    assert (pooled + 1) // 2 == wanted


def test_a_window_that_starts_behind_the_image_does_not_count():
    """Six pixels in windows of two at every third: with ceil a third window would start at pixel 6 (padding
    0) or 5 (padding 1)."""
    x = jnp.arange(6.0).reshape(1, 1, 6, 1)
    assert max_pool(jnp.tile(x, (1, 6, 1, 1)), 2, 3, ceil=True)[0, 0, :, 0].tolist() == [1, 4]
    assert max_pool(jnp.tile(x, (1, 6, 1, 1)), 2, 3, 1, ceil=True)[0, 0, :, 0].tolist() == [0, 3, 5]


@pytest.mark.parametrize("ceil", [False, True])
def test_padded_images_pool_as_they_are(ceil):
    sizes = np.array([[5, 4], [6, 7], [1, 2], [4, 3]])
    x = np.random.default_rng(0).standard_normal((4, 7, 7, 2)).astype(np.float32) - 2
    small = pooled_size(sizes, 3, 2, 1, ceil)
    found = pool(x, 3, 2, 1, ceil=ceil, sizes=sizes)
    for image, after, (H, W), (h, w) in zip(x, found, sizes, small, strict=True):
        alone = square_by_loops(image[:H, :W], 3, 2, 1, ceil)
        np.testing.assert_array_equal(after[:h, :w], alone)
        assert alone.shape == (h, w, 2)
        assert after[h:].sum() == after[:, w:].sum() == 0


def test_gradients_go_to_each_windows_maximum_and_at_a_tie_to_the_first():
    x = jnp.array([[1.0, 5, 5], [2, 0, 5], [7, 7, 1]]).reshape(1, 3, 3, 1)
    by_x = jax.grad(lambda x: max_pool(x, 2, 1).sum())(x)
    # Windows: (1 5 2 0), (5 5 0 5), (2 0 7 7), (0 5 7 1).
    np.testing.assert_array_equal(by_x[0, :, :, 0], [[0, 2, 0], [0, 0, 0], [1, 1, 0]])


def test_types_are_kept_and_too_much_padding_is_refused():
    assert max_pool(jnp.ones((1, 4, 4, 1), jnp.bfloat16), 3, 2, 1).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="padding 2 is more than half of a window of 3"):
        max_pool(jnp.ones((1, 4, 4, 1)), 3, 2, 2)
