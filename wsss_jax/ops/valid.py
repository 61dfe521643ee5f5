"""Images of different sizes in one padded array: what is valid, and operations that see only that.

`sizes` is int32[B, 2], the (height, width) of each image, which lies at the top left of its array.
"""

from typing import overload

import jax
import jax.numpy as jnp


def valid_mask(sizes: jax.Array, height: int, width: int) -> jax.Array:
    """Returns bool[B, height, width, 1], True inside each image."""
    rows = jnp.arange(height)[None, :, None] < sizes[:, 0, None, None]
    columns = jnp.arange(width)[None, None, :] < sizes[:, 1, None, None]
    return (rows & columns)[..., None]


def zero_outside(x: jax.Array, sizes: jax.Array | None) -> jax.Array:
    """Zeroes [B, H, W, C] outside each image, so that a convolution meets the zero padding it would meet
    there.

    `sizes=None` means that the arrays are not padded: x comes back as it is.
    """
    return x if sizes is None else jnp.where(valid_mask(sizes, *x.shape[1:3]), x, 0)


@overload
def after_stride(sizes: jax.Array, stride: int) -> jax.Array: ...
@overload
def after_stride(sizes: None, stride: int) -> None: ...
def after_stride(sizes: jax.Array | None, stride: int) -> jax.Array | None:
    """Sizes after a convolution of this stride: ceil(n / stride)."""
    return sizes if sizes is None else (sizes + stride - 1) // stride


def global_average(x: jax.Array, sizes: jax.Array | None) -> jax.Array:
    """Mean over each image's positions: [B, H, W, C] -> [B, C]."""
    if sizes is None:
        return x.mean((1, 2))
    return zero_outside(x, sizes).sum((1, 2)) / jnp.prod(sizes, axis=1, keepdims=True).astype(x.dtype)


def valid_max(x: jax.Array, sizes: jax.Array | None) -> jax.Array:
    """Maximum over each image's positions: [B, H, W, C] -> [B, 1, 1, C]."""
    inside = None if sizes is None else valid_mask(sizes, *x.shape[1:3])
    return jnp.max(x, (1, 2), keepdims=True, initial=-jnp.inf, where=inside)


def valid_min(x: jax.Array, sizes: jax.Array | None) -> jax.Array:
    """Minimum over each image's positions: [B, H, W, C] -> [B, 1, 1, C]."""
    return -valid_max(-x, sizes)


def softmax_over_positions(x: jax.Array, sizes: jax.Array | None) -> jax.Array:
    """Softmax of each channel over its image's positions, 0 outside: [B, H, W, C] -> [B, H, W, C]."""
    inside = None if sizes is None else valid_mask(sizes, *x.shape[1:3])
    return jax.nn.softmax(x, axis=(1, 2), where=inside)


def flip_valid(x: jax.Array, sizes: jax.Array) -> jax.Array:
    """Mirrors each image left to right inside its own width; what lies outside is rolled, and stays
    outside."""
    W = x.shape[2]
    source = (sizes[:, 1, None] - 1 - jnp.arange(W)[None]) % W
    return jnp.take_along_axis(x, source[:, None, :, None], axis=2)
