"""Convolution as the published networks use it, how fresh weights are drawn, and how many there are."""

import math
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
    """PyTorch's Conv2d, but without a bias unless `bias` is set: most published convolutions have none.

    Attributes:
      features: output channels.
      kernel_size: side of the kernel, or (height, width).
      stride: step in pixels.
      dilation: distance between the kernel's taps in pixels.
      dtype: type of the result; parameters are float32.
      kernel_init: of the kernel.
      padding: zeros on every side, or (above and below, left and right); by default dilation * (k // 2).
      groups: see `conv2d`.
      bias: adds a bias.
      bias_init: of the bias; by default PyTorch's, uniform within 1 / sqrt(fan_in) as the kernel's.
    """

    features: int
    kernel_size: int | tuple[int, int] = 3
    stride: int = 1
    dilation: int = 1
    dtype: Any = jnp.float32
    kernel_init: Any = torch_conv_init
    padding: int | tuple[int, int] | None = None
    groups: int = 1
    bias: bool = False
    bias_init: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, Cin] -> [B, h, w, features], for an odd kernel and the default padding
        [B, ceil(H / stride), ceil(W / stride), features]; else see `conv2d`."""
        shape = (*_pair(self.kernel_size), x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = conv2d(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            dilation=self.dilation,
            padding=None if self.padding is None else _pair(self.padding),
            groups=self.groups,
        )
        if not self.bias:
            return y
        init = self.bias_init or _torch_bias_init(math.prod(shape[:3]))
        return y + self.param("bias", init, (self.features,), jnp.float32).astype(self.dtype)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _torch_bias_init(fan_in: int) -> Any:
    """Uniform within 1 / sqrt(fan_in), where fan_in counts the values that one output sees."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


def scaled_channels(published: int, width: float) -> int:
    """A published count of channels times a width, at least 1."""
    return max(1, int(published * width))
