"""DeepLab-v2 on ResNet-101, which looks at each image at three scales (MSC).

L.-C. Chen et al.: "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and
Fully Connected CRFs", TPAMI 2018, as deeplab-pytorch builds it. Its ResNet is Caffe's: the stride is in the
first 1x1 convolution of a block and in its shortcut, and max pooling rounds sizes up. Module names are those
of its state dict `deeplabv2_resnet101`.
"""

import functools
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.layers import Conv, scaled_channels
from wsss_jax.models.norms import BatchNorm
from wsss_jax.ops.pool import max_pool, pooled_size
from wsss_jax.ops.preprocess import Preprocess
from wsss_jax.ops.resize import Size, rescale_valid, rescaled_size, resize_bilinear, resize_valid
from wsss_jax.ops.valid import zero_outside
from wsss_jax.refinement.energies import MEAN_BGR

SCALES = (0.5, 0.75)  # besides 1
PUBLISHED_BLOCKS = (3, 4, 23, 3)
PUBLISHED_DILATIONS = (1, 1, 2, 4)
PUBLISHED_ATROUS = (6, 12, 18, 24)
_LAYERS = ((64, 1), (128, 2), (256, 1), (512, 1))  # channels inside the blocks, stride of the first block
_EXPANSION = 4  # channels of a block's output by those inside


class MultiScaleLogits(NamedTuple):
    """Logits of background and classes, float32[B, h, w, C + 1] each, in the order of the loss's terms."""

    full: jax.Array  # of the image
    half: jax.Array  # of the image at half its size, at a size of its own
    three_quarters: jax.Array
    maximum: jax.Array  # of the three, at the size of the first


class ConvNorm(nn.Module):
    """A convolution and a batch norm, and ReLU if wanted."""

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    relu: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, Cin] -> [B, h, w, features]."""
        settings = (self.features, self.kernel_size, self.stride, self.dilation, self.dtype)
        x = BatchNorm(dtype=self.dtype, name="bn")(Conv(*settings, name="conv")(x))
        return nn.relu(x) if self.relu else x


class Bottleneck(nn.Module):
    """1x1 - 3x3 - 1x1; the shortcut is a 1x1 convolution in the first block of a layer."""

    features: int
    stride: int
    dilation: int
    first: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, sizes: jax.Array | None) -> jax.Array:
        """[B, H, W, Cin] -> [B, h, w, 4 * features]; `sizes` are those of the result."""
        shortcut, out = x, _EXPANSION * self.features
        if self.first:
            shortcut = ConvNorm(out, 1, self.stride, relu=False, dtype=self.dtype, name="shortcut")(x)
        h = ConvNorm(self.features, 1, self.stride, dtype=self.dtype, name="reduce")(x)
        h = zero_outside(h, sizes)
        h = ConvNorm(self.features, 3, 1, self.dilation, dtype=self.dtype, name="conv3x3")(h)
        return nn.relu(ConvNorm(out, 1, relu=False, dtype=self.dtype, name="increase")(h) + shortcut)


class ResNet101(nn.Module):
    """The trunk, at stride 8; attributes as those of `DeepLabV2`."""

    width: float
    blocks: tuple[int, int, int, int]
    dilations: tuple[int, int, int, int]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, sizes: jax.Array | None) -> jax.Array:
        """Prepared images [B, H, W, 3] -> [B, h, w, 2048 * width], h and w by `logit_size`."""
        x = zero_outside(x.astype(self.dtype), sizes)
        x = ConvNorm(scaled_channels(64, self.width), 7, 2, dtype=self.dtype, name="layer1_conv1")(x)
        halved = None if sizes is None else _halved(sizes)
        x = max_pool(x, 3, 2, 1, ceil=True, sizes=halved)
        sizes = None if halved is None else _pooled(halved)
        for layer, (features, stride) in enumerate(_LAYERS):
            sizes = None if sizes is None else -(-sizes // stride)
            for i in range(self.blocks[layer]):
                block = Bottleneck(
                    scaled_channels(features, self.width),
                    1 if i else stride,
                    self.dilations[layer],
                    first=i == 0,
                    dtype=self.dtype,
                    name=f"layer{layer + 2}_block{i + 1}",
                )
                x = block(x, sizes)
        return zero_outside(x, sizes)


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling: the sum of 3x3 convolutions of several dilations, at every position."""

    features: int
    dilations: tuple[int, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, N] -> float32[B, h, w, features]."""
        total = jnp.zeros(())
        for i, dilation in enumerate(self.dilations):
            branch = Conv(
                self.features,
                3,
                dilation=dilation,
                dtype=self.dtype,
                kernel_init=nn.initializers.normal(0.01),
                bias=True,
                bias_init=nn.initializers.zeros,
                name=f"c{i}",
            )
            total = total + branch(x).astype(jnp.float32)
        return total


class DeepLabV2(nn.Module):
    """The network.

    Attributes:
      num_classes: C foreground classes; background comes before them.
      width: multiplier of every channel count of the trunk; 1 is the published ResNet-101.
      blocks: of the trunk's four layers, each at least 1.
      dilations: of the 3x3 convolutions in these layers.
      atrous: dilations of the four convolutions of the head.
      dtype: type of the activations; parameters stay float32.
    """

    num_classes: int
    width: float = 1.0
    blocks: tuple[int, int, int, int] = PUBLISHED_BLOCKS
    dilations: tuple[int, int, int, int] = PUBLISHED_DILATIONS
    atrous: tuple[int, ...] = PUBLISHED_ATROUS
    dtype: Any = jnp.float32

    backbone: ClassVar[str] = "ResNet-101"
    stride: ClassVar[int] = 8
    preprocess: ClassVar[Preprocess] = Preprocess(mean=MEAN_BGR, scale=1.0, bgr=True)
    state_dict: ClassVar[str] = "deeplabv2_resnet101"
    heads: ClassVar[tuple[str, ...]] = ("aspp",)
    with_background: ClassVar[bool] = False

    @nn.compact
    def __call__(self, images: jax.Array, sizes: jax.Array | None = None) -> MultiScaleLogits:
        """Scores prepared images [B, H, W, 3].

        Args:
          images: BGR less the mean colour.
          sizes: int32[B, 2] if the images lie inside padded arrays; the logits of `full` and `maximum` are
            then valid, and equal to those of the unpadded image, in the first `logit_size` rows and columns,
            and undefined elsewhere.
        """
        trunk = ResNet101(self.width, self.blocks, self.dilations, self.dtype, name="trunk")
        head = Aspp(self.num_classes + 1, self.atrous, self.dtype, name="aspp")
        # The image itself comes last, so that batch norms that are measured are measured on it.
        half, three_quarters = (
            head(trunk(rescale_valid(images, sizes, scale), _rescaled(sizes, scale))) for scale in SCALES
        )
        full = head(trunk(images, sizes))
        small = (_enlarged(x, full, sizes, s) for x, s in zip((half, three_quarters), SCALES, strict=True))
        return MultiScaleLogits(full, half, three_quarters, functools.reduce(jnp.maximum, small, full))


def logit_size(size: Size) -> Size:
    """Rows (or columns) of the logits of an image, a side or an array of sizes: a side of 321 gives 41."""
    return _halved(_pooled(_halved(size)))


def _rescaled(sizes: jax.Array | None, scale: float) -> jax.Array | None:
    return None if sizes is None else rescaled_size(sizes, scale)


def _enlarged(logits: jax.Array, full: jax.Array, sizes: jax.Array | None, scale: float) -> jax.Array:
    """The logits of a smaller image at the size of those of the image itself, `full`."""
    H, W = full.shape[1:3]
    if sizes is None:
        return resize_bilinear(logits, (H, W))
    return resize_valid(logits, logit_size(rescaled_size(sizes, scale)), logit_size(sizes), (H, W))


def _halved(size: Size) -> Size:
    return (size + 1) // 2


def _pooled(size: Size) -> Size:
    return pooled_size(size, 3, 2, 1, ceil=True)
