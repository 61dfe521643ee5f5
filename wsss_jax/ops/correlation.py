"""Passing maps on between positions that look alike, without keeping the matrix of all pairs."""

import jax
import jax.numpy as jnp

_BLOCK_ELEMENTS = 2**24  # pairs that exist at a time; all of them are (h w)^2 for each image
_EPSILON = 1e-5


def correlate(maps: jax.Array, features: jax.Array, *, block_elements: int = _BLOCK_ELEMENTS) -> jax.Array:
    """Mean of the maps over all positions, weighted for each position by the likeness of their features.

    result[j] = sum_i a_ij maps[i] / (sum_i a_ij + 1e-5), where a_ij is the positive part of the cosine
    between the features of i and j (the pixel correlation of SEAM, CVPR 2020, and CPN, ICCV 2021).

    An image of 448 x 448 has 56 x 56 positions and ten million pairs, and a gradient would keep several
    numbers for each. Here a block of columns exists at a time, and the backward pass makes it again instead
    of having kept it.

    Args:
      maps: [B, h, w, C], all finite.
      features: [B, h, w, D], zero where invalid.
      block_elements: how many pairs of the batch exist at a time.

    Returns:
      [B, h, w, C], zero where invalid.
    """
    B, h, w, C = maps.shape
    positions = h * w
    vectors, values = unit_vectors(features).reshape(B, positions, -1), maps.reshape(B, positions, C)
    # The sums by which the means are divided are one more map, of ones, in the same product.
    values = jnp.concatenate([values, jnp.ones((B, positions, 1), values.dtype)], -1)
    block = max(1, min(positions, block_elements // (B * positions)))
    blocks = -(-positions // block)
    targets = jnp.pad(vectors, ((0, 0), (0, blocks * block - positions), (0, 0)))

    def one_block(targets: jax.Array) -> jax.Array:
        alike = jax.nn.relu(jnp.einsum("bjd,bid->bji", targets, vectors))
        sums = jnp.einsum("bji,bic->bjc", alike, values)
        return sums[..., :-1] / (sums[..., -1:] + _EPSILON)

    result = jax.lax.map(
        jax.checkpoint(one_block, prevent_cse=False), targets.reshape(B, blocks, block, -1).swapaxes(0, 1)
    )
    return result.swapaxes(0, 1).reshape(B, blocks * block, C)[:, :positions].reshape(B, h, w, C)


def unit_vectors(x: jax.Array) -> jax.Array:
    """Divides vectors [..., D] by their length + 1e-5; zeros stay, with a gradient as PyTorch gives it."""
    squares = jnp.square(x).sum(-1, keepdims=True)
    length = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
    return x / (length + _EPSILON)
