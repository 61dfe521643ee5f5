"""ResNet-38d, the wide pre-activation residual network under four of the five systems.

Z. Wu, C. Shen, A. van den Hengel: "Wider or Deeper", 2016, model A1, with stride 8 as psa uses it.
Module names are those of the PyTorch state dicts (b2_1.conv_branch2a, ...).
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.dropout import Dropout2d
from wsss_jax.models.layers import Conv, scaled_channels
from wsss_jax.models.norms import BatchNorm
from wsss_jax.ops.preprocess import IMAGENET, Preprocess
from wsss_jax.ops.valid import after_stride, zero_outside

_PUBLISHED_BLOCKS = (2, 2, 5, 2)
_PUBLISHED_DILATIONS = (2, 4, 4)
_PUBLISHED_DROPOUT = (0.3, 0.5)
_HEAD_SITE = 4  # of the dropout before a head, after the four of the trunk


class Block(nn.Module):
    """BN - ReLU - 3x3 - BN - ReLU - 3x3 and a shortcut, of the *activated* input where the shape changes."""

    middle: int
    features: int
    stride: int = 1
    first_dilation: int = 1
    dilation: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, sizes: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """[B, H, W, Cin] -> (output [B, h, w, features], activated input [B, H, W, Cin])."""
        activated = nn.relu(BatchNorm(dtype=self.dtype, name="bn_branch2a")(x))
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.features:
            shortcut = Conv(self.features, 1, self.stride, dtype=self.dtype, name="conv_branch1")(activated)
        h = zero_outside(activated, sizes)
        h = Conv(self.middle, 3, self.stride, self.first_dilation, dtype=self.dtype, name="conv_branch2a")(h)
        h = nn.relu(BatchNorm(dtype=self.dtype, name="bn_branch2b1")(h))
        h = zero_outside(h, after_stride(sizes, self.stride))
        h = Conv(self.features, 3, 1, self.dilation, dtype=self.dtype, name="conv_branch2b1")(h)
        return shortcut + h, activated


class Bottleneck(nn.Module):
    """1x1 - 3x3 dilated - 1x1 with channel dropout before the second and third, and a 1x1 shortcut."""

    features: int
    dropout: float
    site: int
    dilation: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, sizes: jax.Array | None, keys: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """[B, H, W, Cin] -> (output [B, H, W, features], activated input [B, H, W, Cin])."""
        activated = nn.relu(BatchNorm(dtype=self.dtype, name="bn_branch2a")(x))
        shortcut = Conv(self.features, 1, dtype=self.dtype, name="conv_branch1")(activated)
        h = Conv(self.features // 4, 1, dtype=self.dtype, name="conv_branch2a")(activated)
        h = nn.relu(BatchNorm(dtype=self.dtype, name="bn_branch2b1")(h))
        h = zero_outside(Dropout2d(self.dropout, self.site)(h, keys), sizes)
        h = Conv(self.features // 2, 3, 1, self.dilation, dtype=self.dtype, name="conv_branch2b1")(h)
        h = nn.relu(BatchNorm(dtype=self.dtype, name="bn_branch2b2")(h))
        h = Dropout2d(self.dropout, self.site + 1)(h, keys)
        return shortcut + Conv(self.features, 1, dtype=self.dtype, name="conv_branch2b2")(h), activated


class ResNet38(nn.Module):
    """The trunk.

    Attributes:
      width: multiplier of every channel count; 1 is the published network of 105 M parameters.
      blocks: plain blocks after the first one of b2, b3, b4 and b5; (2, 2, 5, 2) is the published network.
      dilations: of the 3x3 convolutions in b5 (but its very first), b6 and b7; (2, 4, 4) is the published
        network, whose view on images of 100 pixels would be the whole image.
      dropout: channel dropout in b6 and b7.
      dtype: type of the activations; parameters stay float32.
    """

    width: float = 1.0
    blocks: tuple[int, int, int, int] = _PUBLISHED_BLOCKS
    dilations: tuple[int, int, int] = _PUBLISHED_DILATIONS
    dropout: tuple[float, float] = _PUBLISHED_DROPOUT
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, sizes: jax.Array | None = None, keys: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Computes the named features.

        Args:
          x: normalised images [B, H, W, 3].
          sizes: int32[B, 2] if the images lie inside padded arrays; features are then valid, and equal to
            those of the unpadded image, in the first ceil(size / 8) rows and columns, and undefined
            elsewhere.
          keys: one key per image for dropout; None is inference.

        Returns:
          conv3 [B, H/4, W/4, 256], conv4 [B, H/8, W/8, 512], conv5 [.., 1024], conv6 [.., 4096] (times
          width), sizes rounded up. conv3, conv4 and conv5 are the activated inputs of b4, b5 and b6.
        """
        x = Conv(self._channels(64), dtype=self.dtype, name="conv1a")(
            zero_outside(x.astype(self.dtype), sizes)
        )
        features: dict[str, jax.Array] = {}
        stages = (
            ("b2", 128, 128, 2, 1),
            ("b3", 256, 256, 2, 1),
            ("b4", 512, 512, 2, 1),
            ("b5", 512, 1024, 1, self.dilations[0]),
        )
        for (name, middle, out, stride, dilation), plain in zip(stages, self.blocks, strict=True):
            channels = (self._channels(middle), self._channels(out))
            x, features[name] = Block(*channels, stride, 1, dilation, dtype=self.dtype, name=name)(x, sizes)
            sizes = after_stride(sizes, stride)
            for i in range(plain):
                x, _ = Block(*channels, 1, dilation, dilation, dtype=self.dtype, name=f"{name}_{i + 1}")(
                    x, sizes
                )
        for i, (name, out) in enumerate((("b6", 2048), ("b7", 4096))):
            dilation = self.dilations[i + 1]
            block = Bottleneck(
                self._channels(out), self.dropout[i], 2 * i, dilation, dtype=self.dtype, name=name
            )
            x, features[name] = block(x, sizes, keys)
        conv6 = nn.relu(BatchNorm(dtype=self.dtype, name="bn7")(x))
        return {"conv3": features["b4"], "conv4": features["b5"], "conv5": features["b6"], "conv6": conv6}

    def _channels(self, published: int) -> int:
        return scaled_channels(published, self.width)


class OnResNet38(nn.Module, kw_only=True):
    """A network whose module `trunk` is a `ResNet38`, and what its heads have in common.

    The settings go by name, so that a subclass's own come first by position.

    Attributes:
      backbone, stride, preprocess: what the trunk is called; of the feature maps that heads see, and of the
        images.
      state_dict: its name in `weights.networks`.
      heads: its modules besides the trunk, which ImageNet weights do not have.
      with_background: whether its head `fc8` has a row for background.
      trunk_dropout: `dropout` of the trunk.
      width, blocks, dilations, dtype: see `ResNet38`.
    """

    width: float = 1.0
    blocks: tuple[int, int, int, int] = _PUBLISHED_BLOCKS
    dilations: tuple[int, int, int] = _PUBLISHED_DILATIONS
    trunk_dropout: tuple[float, float] = _PUBLISHED_DROPOUT
    dtype: Any = jnp.float32

    backbone: ClassVar[str] = "ResNet-38"
    stride: ClassVar[int] = 8
    preprocess: ClassVar[Preprocess] = IMAGENET
    state_dict: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    with_background: ClassVar[bool] = False

    def _features(
        self, images: jax.Array, sizes: jax.Array | None, keys: jax.Array | None
    ) -> dict[str, jax.Array]:
        """The trunk's named features; arguments as in `ResNet38`."""
        settings = (self.width, self.blocks, self.dilations, self.trunk_dropout)
        trunk = ResNet38(*settings, self.dtype, name="trunk")
        return trunk(images, sizes, keys)

    def _dropped(self, conv6: jax.Array, rate: float, keys: jax.Array | None) -> jax.Array:
        """The trunk's last feature [B, h, w, N] with channel dropout, as heads for classes see it."""
        return Dropout2d(rate, _HEAD_SITE)(conv6, keys)

    def _pointwise(self, features: int, init: Any, name: str) -> Conv:
        """A 1x1 convolution: [B, h, w, Cin] -> [B, h, w, features]."""
        return Conv(features, 1, dtype=self.dtype, kernel_init=init, name=name)

    def _channels(self, published: int) -> int:
        return scaled_channels(published, self.width)
