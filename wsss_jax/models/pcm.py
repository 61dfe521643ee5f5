"""Pixel correlation: class maps spread along the likeness of low-level features.

Y. Wang et al.: "Self-supervised Equivariant Attention Mechanism for Weakly Supervised Semantic
Segmentation", CVPR 2020 (SEAM), section 3.3; CPN uses the same module. `sizes` is int32[B, 2], the (height,
width) of what is valid in each padded array, or None.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.layers import Conv, torch_conv_init
from wsss_jax.models.resnet38 import STRIDE
from wsss_jax.ops.resize import resize_bilinear, resize_valid
from wsss_jax.ops.valid import after_stride, zero_outside

_EPSILON = 1e-5
_BLOCK_ELEMENTS = 2**26  # affinities in memory at a time; all of them are (h w)^2 per picture


def side_features(
    images: jax.Array,
    conv4: jax.Array,
    conv5: jax.Array,
    sizes: jax.Array | None,
    width: float,
    **common: Any,
) -> jax.Array:
    """The shrunken image and narrow projections of two features: [B, h, w, 3 + 64 + 128] (times `width`).

    To be called inside a module's compact method, which then has the layers `f8_3` and `f8_4`. No gradient
    reaches the trunk.

    Args:
      images: normalised images [B, H, W, 3].
      conv4: of the trunk, [B, h, w, 512].
      conv5: of the trunk, [B, h, w, 1024].
      sizes: of the images.
      width: multiplier of the channel counts.
      **common: options of all convolutions.
    """
    projections = [
        nn.relu(Conv(max(1, int(n * width)), 1, **common, init=torch_conv_init, name=name)(feature))
        for name, n, feature in (
            ("f8_3", 64, jax.lax.stop_gradient(conv4)),
            ("f8_4", 128, jax.lax.stop_gradient(conv5)),
        )
    ]
    small = _shrunken(images, sizes, (conv4.shape[1], conv4.shape[2]))
    return zero_outside(jnp.concatenate([small, *projections], axis=-1), after_stride(sizes, STRIDE))


def normalised_maps(maps: jax.Array, sizes: jax.Array | None) -> jax.Array:
    """What is spread: at each position the background and the one strongest class. No gradient passes.

    Args:
      maps: [B, h, w, 1 + C] scores, background first.
      sizes: of the maps.

    Returns:
      [B, h, w, 1 + C] in 0..1; each class is divided by its maximum, the background is one minus the
      strongest class, and all other classes are zero.
    """
    scores = zero_outside(nn.relu(jax.lax.stop_gradient(maps)), sizes)
    classes = nn.relu(scores - _EPSILON)[..., 1:] / (scores.max((1, 2), keepdims=True)[..., 1:] + _EPSILON)
    strongest = classes.max(-1, keepdims=True)
    return jnp.concatenate([1 - strongest, jnp.where(classes < strongest, 0, classes)], axis=-1)


def correlate(maps: jax.Array, features: jax.Array) -> jax.Array:
    """Mean of the maps over all positions, weighted for each position by the likeness of their features.

    The (h w)^2 affinities of a picture are made and used in blocks, never as a whole.

    Args:
      maps: [B, h, w, C].
      features: [B, h, w, D], zero where invalid; their likeness is the positive part of the cosine.

    Returns:
      [B, h, w, C], zero where invalid.
    """
    B, h, w, C = maps.shape
    positions = h * w
    unit, values = _unit(features).reshape(B, positions, -1), maps.reshape(B, positions, C)
    block = max(1, min(positions, _BLOCK_ELEMENTS // (B * positions)))
    blocks = math.ceil(positions / block)
    targets = jnp.pad(unit, ((0, 0), (0, blocks * block - positions), (0, 0)))

    def spread(target: jax.Array) -> jax.Array:
        affinity = nn.relu(jnp.einsum("bid,bjd->bij", target, unit))
        return affinity @ values / (affinity.sum(-1, keepdims=True) + _EPSILON)

    result = jax.lax.map(spread, targets.reshape(B, blocks, block, -1).swapaxes(0, 1))
    return result.swapaxes(0, 1).reshape(B, blocks * block, C)[:, :positions].reshape(B, h, w, C)


def _unit(features: jax.Array) -> jax.Array:
    """Vectors of length one; a vector of zeros stays, with a gradient of zero, as in PyTorch."""
    square = (features**2).sum(-1, keepdims=True)
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return features / (norm + _EPSILON)


def _shrunken(images: jax.Array, sizes: jax.Array | None, shape: tuple[int, int]) -> jax.Array:
    """The images at the features' size, corners aligned."""
    if sizes is None:
        return resize_bilinear(images, shape, align_corners=True)
    return resize_valid(images, sizes, after_stride(sizes, STRIDE), shape, align_corners=True)
