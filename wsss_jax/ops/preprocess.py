"""From a uint8 image to what a network was trained on."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from wsss_jax.data.transforms import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """(x / scale - mean) / std of each channel.

    Attributes:
      mean, std: of the channels as the network sees them.
      scale: 255 for statistics of 0..1, 1 for those of 0..255.
      bgr: whether the network sees blue first.
      pad_first: whether a crop's margin is black before these statistics are taken off, and not zeros, the
        mean colour, after it.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    scale: float = 255.0
    bgr: bool = False
    pad_first: bool = False

    def images(self, images: jax.Array) -> jax.Array:
        """uint8 RGB [..., 3] -> float32[..., 3]."""
        channels = images[..., ::-1] if self.bgr else images
        mean, std = jnp.asarray(self.mean, jnp.float32), jnp.asarray(self.std, jnp.float32)
        return (channels.astype(jnp.float32) / self.scale - mean) / std

    def crops(self, images: jax.Array, boxes: jax.Array) -> jax.Array:
        """Prepares crops, in which images may leave a margin.

        Args:
          images: uint8[B, H, W, 3], black in the margin.
          boxes: int32[B, 4], (top, bottom, left, right) of the image inside its crop, ends exclusive.
        """
        if self.pad_first:
            return self.images(images)
        H, W = images.shape[1:3]
        rows, columns = jnp.arange(H)[None, :], jnp.arange(W)[None, :]
        inside_rows = (rows >= boxes[:, 0, None]) & (rows < boxes[:, 1, None])
        inside_columns = (columns >= boxes[:, 2, None]) & (columns < boxes[:, 3, None])
        inside = inside_rows[:, :, None, None] & inside_columns[:, None, :, None]
        return jnp.where(inside, self.images(images), 0)


IMAGENET = Preprocess(mean=IMAGENET_MEAN, std=IMAGENET_STD)
"""torchvision's, which psa and all that build on it use."""
