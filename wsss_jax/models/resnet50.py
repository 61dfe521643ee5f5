"""ResNet-50 at stride 16, the network under IRN's classifier, IRN itself and WaveCAM.

K. He, X. Zhang, S. Ren, J. Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, in torchvision's
form (the stride in the 3x3 convolution), with stride 1 in layer4, as IRN uses it. Module names are those of
torchvision's state dict.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.layers import Conv, scaled_channels
from wsss_jax.models.norms import BatchNorm
from wsss_jax.ops.pool import max_pool
from wsss_jax.ops.preprocess import IMAGENET, Preprocess
from wsss_jax.ops.valid import after_stride, zero_outside

_PUBLISHED_BLOCKS = (3, 4, 6, 3)
_LAYERS = ((64, 1), (128, 2), (256, 2), (512, 1))  # channels inside the blocks, stride of the first block
_EXPANSION = 4  # channels of a block's output by those inside


class Bottleneck(nn.Module):
    """1x1 - 3x3 - 1x1, each with batch norm, and a shortcut that is a 1x1 convolution where shapes change."""

    features: int
    stride: int = 1
    shortcut: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, sizes: jax.Array | None) -> jax.Array:
        """[B, H, W, Cin] -> [B, h, w, 4 * features]; `sizes` are those of x."""
        shortcut, out = x, _EXPANSION * self.features
        if self.shortcut:
            shortcut = self._norm(self._conv(out, 1, self.stride, "downsample_0")(x), "downsample_1")
        h = nn.relu(self._norm(self._conv(self.features, 1, 1, "conv1")(x), "bn1"))
        h = self._conv(self.features, 3, self.stride, "conv2")(zero_outside(h, sizes))
        h = self._conv(out, 1, 1, "conv3")(nn.relu(self._norm(h, "bn2")))
        return nn.relu(shortcut + self._norm(h, "bn3"))

    def _conv(self, features: int, side: int, stride: int, name: str) -> Conv:
        return Conv(features, side, stride, dtype=self.dtype, name=name)

    def _norm(self, x: jax.Array, name: str) -> jax.Array:
        return BatchNorm(dtype=self.dtype, name=name)(x)


class ResNet50(nn.Module):
    """The trunk. Its batch norms always use the stored statistics, as in IRN's code.

    Attributes:
      width: multiplier of every channel count; 1 is the published network of 23.5 M parameters.
      blocks: of layer1 to layer4, each at least 1; (3, 4, 6, 3) is the published network.
      dtype: type of the activations; parameters stay float32.
    """

    width: float = 1.0
    blocks: tuple[int, int, int, int] = _PUBLISHED_BLOCKS
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, sizes: jax.Array | None = None) -> dict[str, jax.Array]:
        """Computes the feature map after each stage.

        Args:
          x: normalised images [B, H, W, 3].
          sizes: int32[B, 2] if the images lie inside padded arrays; features are then valid, and equal to
            those of the unpadded image, in the first ceil(size / stride) rows and columns, and undefined
            elsewhere.

        Returns:
          stem [B, H/4, W/4, 64] (after its max pooling), layer1 [B, H/4, W/4, 256], layer2 [B, H/8, W/8,
          512], layer3 [B, H/16, W/16, 1024], layer4 [.., 2048] (times width), each halving rounded up.
        """
        x = zero_outside(x.astype(self.dtype), sizes)
        x = Conv(scaled_channels(64, self.width), 7, 2, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(x))
        x = max_pool(x, 3, 2, 1, sizes=after_stride(sizes, 2))
        sizes, features = after_stride(sizes, 4), {"stem": x}
        for layer, ((channels, stride), count) in enumerate(zip(_LAYERS, self.blocks, strict=True), 1):
            for i in range(count):
                first, name = i == 0, f"layer{layer}_{i}"
                step = stride if first else 1
                block = Bottleneck(scaled_channels(channels, self.width), step, first, self.dtype, name=name)
                x, sizes = block(x, sizes), after_stride(sizes, step)
            features[f"layer{layer}"] = x
        return features


def feature_channels(width: float) -> int:
    """Channels of the last feature map."""
    return _EXPANSION * scaled_channels(_LAYERS[-1][0], width)


class OnResNet50(nn.Module, kw_only=True):
    """A network whose module `trunk` is a `ResNet50`, and what its heads have in common.

    The settings go by name, so that a subclass's own come first by position.

    Attributes:
      backbone, stride, preprocess: what the trunk is called; of the last feature map, and of the images.
      state_dict: its name in `weights.networks`.
      heads: its modules besides the trunk, which ImageNet weights do not have.
      with_background: whether it has a row for background among its classes.
      width, blocks, dtype: see `ResNet50`.
    """

    width: float = 1.0
    blocks: tuple[int, int, int, int] = _PUBLISHED_BLOCKS
    dtype: Any = jnp.float32

    backbone: ClassVar[str] = "ResNet-50"
    stride: ClassVar[int] = 16
    preprocess: ClassVar[Preprocess] = IMAGENET
    state_dict: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    with_background: ClassVar[bool] = False

    def _features(self, images: jax.Array, sizes: jax.Array | None) -> dict[str, jax.Array]:
        """The trunk's feature maps; arguments as in `ResNet50`."""
        return ResNet50(self.width, self.blocks, self.dtype, name="trunk")(images, sizes)
