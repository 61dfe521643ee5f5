"""Batch, group and layer norm with PyTorch's arithmetic. Which of their parameters learn a task says."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from wsss_jax.ops.valid import valid_mask

CALIBRATION = "calibration"
"""Collection without variables; a call that makes it mutable measures the statistics of all batch norms."""


class BatchNorm(nn.Module):
    """Batch norm over all axes but the last.

    The published networks use it in four ways:

    - frozen, as every ResNet-38 method and DeepLab-v2: the default, and the task's optimiser groups freeze
      scale and bias, which then are no argument of the gradient and cost no backward pass;
    - statistics frozen while scale and bias learn (the ResNet-50 of WaveCAM and of IRN's classifier): the
      default, in a group that learns;
    - the statistics of the global batch, on all devices (WaveCAM's predictor, AFA's decoder):
      `batch_statistics`;
    - those of n consecutive images of the global batch (LargeFOV, 5): `batch_statistics` and `group_size`.

    A call that makes the collection `batch_stats` mutable is one in training: layers with `batch_statistics`
    then normalise by these and move their running statistics. All others use running statistics, position by
    position, so that padding around an image changes nothing in it. A network without pretrained weights has
    none; one call with `CALIBRATION` mutable too measures them, layer by layer, on the batch that it is
    given, whatever the settings.

    Attributes:
      batch_statistics: train with the batch's own statistics.
      group_size: images that share statistics; None is all. The batch must be a multiple of it.
      momentum: of the newest statistics, as PyTorch counts it: running = (1 - momentum) * running + momentum
        * newest.
      epsilon: PyTorch's default; the MXNet network was trained with 1.001e-5, the references run 1e-5.
      dtype: type of the result; parameters and statistics are float32.
    """

    batch_statistics: bool = False
    group_size: int | None = None
    momentum: float = 0.1
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises [B, ..., C].

        Raises:
          ValueError: in training, if the batch is no multiple of `group_size` or a group has only one value
            per channel, whose variance is unknown.
        """
        features = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, features, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, features, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, features, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, features, jnp.float32)
        used_mean, used_var = self._statistics(x, mean, var)
        gain = scale * jax.lax.rsqrt(used_var + self.epsilon)
        return x * gain.astype(self.dtype) + (bias - used_mean * gain).astype(self.dtype)

    def _statistics(self, x: jax.Array, mean: nn.Variable, var: nn.Variable) -> tuple[jax.Array, jax.Array]:
        """Mean and variance to normalise by, [C] or [B, 1, ..., C]; sets the running ones where it should."""
        if self.is_initializing() or not self.is_mutable_collection("batch_stats"):
            return mean.value, var.value
        if self.is_mutable_collection(CALIBRATION):
            means, variances = _group_moments(x, len(x))
            mean.value, var.value = means[0], variances[0]
        elif self.batch_statistics:
            group_size, count = self._group(x)
            means, variances = _group_moments(x, group_size)
            mean.value = _after_groups(mean.value, means, self.momentum)
            # PyTorch normalises by the variance with divisor n, and keeps the one with n - 1.
            var.value = _after_groups(var.value, variances * (count / (count - 1)), self.momentum)
            return _per_image(means, x), _per_image(variances, x)
        return mean.value, var.value

    def _group(self, x: jax.Array) -> tuple[int, int]:
        """Images of a group, and values per channel in it."""
        images = self.group_size or len(x)
        if len(x) % images:
            raise ValueError(f"a batch of {len(x)} images is no multiple of batch norm's group_size={images}")
        count = images * (x[0].size // x.shape[-1])
        if count == 1:
            raise ValueError(f"batch norm needs more than one value per channel to train on; x is {x.shape}")
        return images, count


class GroupNorm(nn.GroupNorm):
    """PyTorch's GroupNorm: each image's channels in `num_groups` groups, each normalised over all positions.

    State-dict names and parameters are those of Flax's layer: scale and bias of [C].
    """

    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    use_fast_variance: bool = False  # E[x^2] - E[x]^2 loses what PyTorch keeps where means are large

    def __call__(self, x: jax.Array, sizes: jax.Array | None = None) -> jax.Array:  # type: ignore[override]
        """[B, H, W, C] -> [B, H, W, C].

        With `sizes` int32[B, 2], where images lie inside padded arrays, the statistics are those of the
        images alone; what comes out outside is undefined.
        """
        inside = None if sizes is None else valid_mask(sizes, *x.shape[1:3])
        return super().__call__(x, mask=None if inside is None else jnp.broadcast_to(inside, x.shape))


class LayerNorm(nn.LayerNorm):
    """PyTorch's LayerNorm over channels: [..., C] -> [..., C].

    Each position is normalised alone, so what lies outside an image in a padded array changes nothing in it.
    SegFormer sets epsilon to 1e-6 in its blocks and leaves the default elsewhere.
    """

    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    use_fast_variance: bool = False  # see `GroupNorm`


def _group_moments(x: jax.Array, group_size: int) -> tuple[jax.Array, jax.Array]:
    """Means and variances (divisor n) of each group of images: [B, ..., C] -> twice float32[groups, C].

    Each image is summed up first, so that where a batch is split over devices these exchange vectors and no
    activations.
    """
    positions = tuple(range(1, x.ndim - 1))

    def mean(values: jax.Array) -> jax.Array:
        return values.mean(positions).reshape(-1, group_size, x.shape[-1]).mean(1)

    x = x.astype(jnp.float32)
    means = mean(x)
    return means, mean(jnp.square(x - _per_image(means, x)))


def _per_image(moments: jax.Array, x: jax.Array) -> jax.Array:
    """Gives each image its group's vector: [groups, C] and [B, ..., C] -> [B, 1, ..., C]."""
    repeated = jnp.repeat(moments, len(x) // len(moments), axis=0)
    return repeated.reshape(len(x), *(1 for _ in x.shape[1:-1]), x.shape[-1])


def _after_groups(running: jax.Array, moments: jax.Array, momentum: float) -> jax.Array:
    """Running statistics [C] after one group's moments after the other, [groups, C], in their order.

    One pass over k groups so leaves what k iterations of PyTorch with a group each leave.
    """
    later = np.arange(len(moments) - 1, -1, -1)  # groups that follow
    shares = momentum * (1 - momentum) ** later.astype(np.float32)
    return (1 - momentum) ** len(moments) * running + (shares[:, None] * moments).sum(0)
