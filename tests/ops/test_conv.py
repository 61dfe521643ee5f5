"""Convolution against loops over pixels, and its gradients by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wsss_jax.ops.conv import conv2d

CASES = st.fixed_dictionaries(
    {
        "height": st.integers(1, 9),
        "width": st.integers(1, 9),
        "channels": st.integers(1, 2),
        "features": st.integers(1, 2),
        "groups": st.integers(1, 2),
        "kernel": st.sampled_from([(1, 1), (3, 3), (1, 3), (5, 1)]),
        "padding": st.sampled_from([None, None, (0, 1), (3, 2)]),
        "stride": st.integers(1, 3),
        "dilation": st.integers(1, 4),
        "seed": st.integers(0, 99),
    }
)


def draw(case):
    rng = np.random.default_rng(case["seed"])
    channels, features = case["channels"], case["features"] * case["groups"]
    x = rng.standard_normal((2, case["height"], case["width"], channels * case["groups"]))
    kernel = rng.standard_normal((*case["kernel"], channels, features))
    return x.astype(np.float32), kernel.astype(np.float32)


def by_loops(x, kernel, stride, dilation, padding, groups):
    """PyTorch's definition: output i sees input i * stride + a * dilation - padding, zero outside, and a
    group of outputs its own group of inputs."""
    B, H, W, _ = x.shape
    kh, kw, channels, features = kernel.shape
    out = np.zeros(
        (
            B,
            (H + 2 * padding[0] - dilation * (kh - 1) - 1) // stride + 1,
            (W + 2 * padding[1] - dilation * (kw - 1) - 1) // stride + 1,
            features,
        )
    )
    for i, j, a, b in np.ndindex(*out.shape[1:3], kh, kw):
        y, z = i * stride + a * dilation - padding[0], j * stride + b * dilation - padding[1]
        if 0 <= y < H and 0 <= z < W:
            for outputs, inputs in zip(
                np.split(np.arange(features), groups),
                np.split(np.arange(channels * groups), groups),
                strict=True,
            ):
                out[:, i, j, outputs] += x[:, y, z, inputs] @ kernel[a, b][:, outputs]
    return out


@settings(max_examples=20, deadline=None)
@given(CASES)
def test_convolution_is_pytorchs(case):
    x, kernel = draw(case)
    reach = tuple(case["dilation"] * (k - 1) for k in case["kernel"])
    padding = case["padding"] or tuple(r // 2 for r in reach)  # by default, what keeps sizes at stride 1
    assume(all(n + 2 * p > r for n, p, r in zip(x.shape[1:3], padding, reach, strict=True)))
    how = {name: case[name] for name in ("stride", "dilation", "groups")}
    wanted = by_loops(x, kernel, padding=padding, **how)
    found = conv2d(x, kernel, padding=case["padding"], **how)
    assert found.shape == wanted.shape
    largest = by_loops(np.abs(x), np.abs(kernel), padding=padding, **how).max()
    np.testing.assert_allclose(found, wanted, atol=1e-6 * largest)  # of sums that may cancel


def test_stride_two_starts_at_the_first_pixel():
    """XLA's SAME would pad only the far end of an even size: outputs 2 + 3 + 4 = 9 (with 1) and 4."""
    x = jnp.array([1.0, 2, 3, 4]).reshape(1, 1, 4, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1].set(1.0)
    found = conv2d(x, kernel, stride=2)[0, 0, :, 0]
    np.testing.assert_array_equal(found, [0 + 1 + 2, 2 + 3 + 4])


def test_default_padding_rounds_sizes_up():
    for n, stride, dilation in [(9, 2, 1), (8, 2, 3), (7, 3, 2), (1, 2, 4)]:
        found = conv2d(jnp.ones((1, n, n, 1)), jnp.ones((3, 3, 1, 1)), stride=stride, dilation=dilation)
        assert found.shape == (1, -(-n // stride), -(-n // stride), 1)


def test_groups_by_hand():
    """Outputs 0 and 1 see channel 0, outputs 2 and 3 channel 1."""
    x = jnp.array([2.0, 3.0]).reshape(1, 1, 1, 2)
    found = conv2d(x, jnp.array([1.0, 10, 100, 1000]).reshape(1, 1, 1, 4), groups=2)
    np.testing.assert_array_equal(found.ravel(), [2, 20, 300, 3000])


def test_dilation_is_the_distance_of_taps():
    x = jnp.array([1.0, 10, 100, 1000, 10000]).reshape(1, 1, 5, 1)
    kernel = jnp.array([1.0, 2, 3]).reshape(1, 3, 1, 1) * jnp.array([0, 1.0, 0]).reshape(3, 1, 1, 1)
    found = conv2d(x, kernel, dilation=2)[0, 0, :, 0]
    # Each output: 1 x what lies two to the left, 2 x itself, 3 x what lies two to the right.
    np.testing.assert_array_equal(found, [302, 3020, 30201, 2010, 20100])


def test_weight_gradient_by_hand():
    """Of the sum of outputs, a tap's gradient is the sum of what it saw."""
    x = jnp.array([[1.0, 2], [3, 4]]).reshape(1, 2, 2, 1)
    grad = jax.grad(lambda kernel: conv2d(x, kernel).sum())(jnp.ones((3, 3, 1, 1)))
    np.testing.assert_array_equal(grad[:, :, 0, 0], [[1, 3, 2], [4, 10, 6], [3, 7, 4]])
    pointwise = jax.grad(lambda kernel: conv2d(x, kernel).sum())(jnp.ones((1, 1, 1, 1)))
    assert pointwise.item() == 1 + 2 + 3 + 4


def test_pointwise_gradient_at_stride_two_by_hand():
    """Only every second pixel is seen, and so only these get a gradient."""
    x = jnp.arange(1.0, 10).reshape(1, 3, 3, 1)
    by_x, by_kernel = jax.grad(lambda x, kernel: conv2d(x, kernel, stride=2).sum(), (0, 1))(
        x, jnp.full((1, 1, 1, 1), 5.0)
    )
    np.testing.assert_array_equal(by_x[0, :, :, 0], [[5, 0, 5], [0, 0, 0], [5, 0, 5]])
    assert by_kernel.item() == 1 + 3 + 7 + 9


@pytest.mark.parametrize("size", [1, 3])
def test_types_are_kept(size):
    x, kernel = jnp.ones((1, 4, 4, 2), jnp.bfloat16), jnp.ones((size, size, 2, 1), jnp.bfloat16)
    grads = jax.grad(lambda x, k: conv2d(x, k).sum().astype(jnp.float32), (0, 1))(x, kernel)
    assert [g.dtype for g in grads] == [jnp.bfloat16, jnp.bfloat16]
    assert [g.shape for g in grads] == [x.shape, kernel.shape]
