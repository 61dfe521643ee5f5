"""IRN's walk for `refinement.walker`: boundaries of images in padded arrays, and what they let through."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from wsss_jax.ops.valid import after_stride, flip_valid, zero_outside
from wsss_jax.refinement.walk import WalkSettings, irn_walk
from wsss_jax.systems.irn.network import Irn, look
from wsss_jax.task import Variables


@dataclass(frozen=True, kw_only=True)
class IrnWalk:
    """IRN's walk; see `refinement.walker.Walk`.

    Attributes:
      network: IRN's.
      radius: of affinities.
      settings: how far it goes.
      pad: see `boundaries`.
    """

    network: Irn
    radius: int
    settings: WalkSettings
    pad: int = 0

    @property
    def stride(self) -> int:
        """Pixels per position."""
        return self.network.map_stride

    def see(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> jax.Array:
        """Boundaries float32[B, ceil(H / 4), ceil(W / 4)], 0..1."""
        return boundaries(self.network, variables, self.network.preprocess.images(images), sizes, self.pad)

    def carry(self, planes: jax.Array, seen: jax.Array, sizes: jax.Array) -> jax.Array:
        """IRN's walk of CAMs."""
        return irn_walk(planes, seen, after_stride(sizes, self.stride), self.radius, self.settings)


def boundaries(
    network: Irn, variables: Variables, pixels: jax.Array, sizes: jax.Array, pad: int = 0
) -> jax.Array:
    """Sigmoid of the mean logit of each image and its mirror image.

    Args:
      network: IRN's.
      variables: its.
      pixels: prepared images float32[B, H, W, 3].
      sizes: their own, int32[B, 2].
      pad: images are zero padded to this side at least, at the right and at the bottom, and mirror images at
        their right, too. IRN's own program does so (512), and its group norms see it; ReCAM's and WaveCAM's
        have left it out (0). An image that is longer along an axis is not padded there; IRN's program fails.

    Returns:
      float32[B, ceil(H / 4), ceil(W / 4)], 0..1; meaningless outside the images.
    """
    H, W = pixels.shape[1:3]
    pixels = zero_outside(pixels, sizes)
    views = jnp.stack([pixels, flip_valid(pixels, sizes)])
    views = jnp.pad(views, ((0, 0), (0, 0), (0, max(0, pad - H)), (0, max(0, pad - W)), (0, 0)))
    seen = jnp.maximum(sizes, pad)
    # One view after the other: of both at once memory would hold twice as much.
    logits = jax.lax.map(lambda view: look(network, variables, view, seen).boundaries, views)
    h, w = -(-H // network.map_stride), -(-W // network.map_stride)
    straight, mirrored = logits[:, :, :h, :w]
    back = flip_valid(mirrored[..., None], after_stride(sizes, network.map_stride))[..., 0]
    return jax.nn.sigmoid(straight / 2 + back / 2)
