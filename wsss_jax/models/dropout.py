"""Dropout of values, of channels and of whole residual branches, drawn from each image's own key.

One key per image makes a draw independent of how a batch is split over devices or accumulation steps.
"""

import flax.linen as nn
import jax


class Dropout(nn.Module):
    """Drops single values, as PyTorch's Dropout.

    Attributes:
      rate: probability of being dropped; what stays is divided by 1 - rate.
      site: a number that tells the draws of a network's dropout layers apart.
    """

    rate: float
    site: int

    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """[B, ..., C] and B keys -> [B, ..., C]; keys=None (inference) changes nothing."""
        if keys is None or self.rate == 0:
            return x
        shape = self._drawn(x.shape[1:])
        keys = jax.vmap(lambda key: jax.random.fold_in(key, self.site))(keys)
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, shape))(keys)
        return x * keep.astype(x.dtype) / (1 - self.rate)

    def _drawn(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what is drawn for an image of this shape; an axis of 1 shares its draw."""
        return shape


class Dropout2d(Dropout):
    """Drops whole channels of each image, as PyTorch's Dropout2d."""

    def _drawn(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*(1 for _ in shape[:-1]), shape[-1])


class DropPath(Dropout):
    """Drops a residual branch of an image as a whole (stochastic depth), before it is added to its input.

    G. Huang et al.: "Deep Networks with Stochastic Depth", ECCV 2016; here as in timm, whose transformers
    divide what stays by 1 - rate in training and do nothing in inference.
    """

    def _drawn(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(1 for _ in shape)
