"""Layers that the published networks share: bias-free convolution, frozen batch norm, channel dropout."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.ops.conv import conv2d

# PyTorch's default for convolutions, kaiming_uniform(a=sqrt(5)): uniform within 1 / sqrt(fan_in).
torch_conv_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
xavier_init = nn.initializers.xavier_uniform()
wide_xavier_init = nn.initializers.variance_scaling(16.0, "fan_avg", "uniform")  # xavier_uniform_, gain 4
kaiming_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # kaiming_normal_


class Conv(nn.Module):
    """k x k convolution without bias, padded as PyTorch pads: dilation * (k // 2) on every side."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    dtype: Any = jnp.float32
    init: Any = torch_conv_init

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, Cin] -> [B, ceil(H / stride), ceil(W / stride), features]."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.init, shape, jnp.float32)
        return conv2d(
            x.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride, dilation=self.dilation
        )


class FrozenBatchNorm(nn.Module):
    """Batch norm that always uses its running statistics, in training too, as every ResNet-38 method does.

    Its four vectors never learn (methods label them frozen). A network without pretrained weights has no
    statistics to use; applied with `batch_stats` mutable, the layer measures them on the batch it is given.
    """

    # PyTorch's default; the MXNet network was trained with 1.001e-5, the references run 1e-5.
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises the last axis of [..., C]."""
        features = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, features, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, features, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, features, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, features, jnp.float32)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            axes = tuple(range(x.ndim - 1))
            mean.value, var.value = x.mean(axes, jnp.float32), x.astype(jnp.float32).var(axes)
        gain = scale * jax.lax.rsqrt(var.value + self.epsilon)
        return x * gain.astype(self.dtype) + (bias - mean.value * gain).astype(self.dtype)


class Dropout2d(nn.Module):
    """Drops whole channels of each image, drawn from that image's own key.

    One key per image makes the draw independent of how a batch is split over devices or accumulation steps.
    """

    rate: float
    site: int  # tells the draws of a network's dropout layers apart

    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """[B, H, W, C] and B keys -> [B, H, W, C]; keys=None (inference) changes nothing."""
        if keys is None or self.rate == 0:
            return x
        keys = jax.vmap(lambda key: jax.random.fold_in(key, self.site))(keys)
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[-1:]))(keys)
        return x * keep[:, None, None, :].astype(x.dtype) / (1 - self.rate)
