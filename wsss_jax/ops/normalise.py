"""Scaling of pictures and of class activation maps."""

import jax
import jax.numpy as jnp

from wsss_jax.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from wsss_jax.ops.valid import valid_max, valid_min, zero_outside


def normalise_images(images: jax.Array) -> jax.Array:
    """uint8 RGB [..., 3] -> float32, (x / 255 - mean) / std with the ImageNet statistics."""
    mean, std = jnp.asarray(IMAGENET_MEAN), jnp.asarray(IMAGENET_STD)
    return (images.astype(jnp.float32) / 255 - mean) / std


def normalise_crops(images: jax.Array, boxes: jax.Array) -> jax.Array:
    """Normalises crops and zeroes what lies outside the picture.

    The references crop into a container of zeros *after* normalising, so padding is the mean colour, not
    black.

    Args:
      images: uint8[B, H, W, 3].
      boxes: int32[B, 4], (top, bottom, left, right) of the picture inside its crop, ends exclusive.
    """
    H, W = images.shape[1:3]
    rows, columns = jnp.arange(H)[None, :], jnp.arange(W)[None, :]
    inside_rows = (rows >= boxes[:, 0, None]) & (rows < boxes[:, 1, None])
    inside_columns = (columns >= boxes[:, 2, None]) & (columns < boxes[:, 3, None])
    inside = inside_rows[:, :, None, None] & inside_columns[:, None, :, None]
    return jnp.where(inside, normalise_images(images), 0)


def max_normalise(cams: jax.Array, sizes: jax.Array | None = None) -> jax.Array:
    """Divides each class's map by its maximum + 1e-5: [B, H, W, K] of values >= 0 -> 0..1 (psa, OC-CSE)."""
    cams = zero_outside(cams, sizes)
    return cams / (cams.max((1, 2), keepdims=True) + 1e-5)


def min_max_normalise(cams: jax.Array, sizes: jax.Array | None = None) -> jax.Array:
    """Stretches each class's map from its lowest to its highest value, of what is positive: [B, H, W, K] ->
    0..1, 0 outside the pictures.

    ReLU(p - min - 1e-5) / (max - min + 1e-5) with p = ReLU(cams) (SEAM, CPN).
    """
    p = jax.nn.relu(cams)
    lowest = valid_min(p, sizes)
    return zero_outside(jax.nn.relu(p - lowest - 1e-5) / (valid_max(p, sizes) - lowest + 1e-5), sizes)
