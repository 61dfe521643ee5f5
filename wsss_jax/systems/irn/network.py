"""IRN's network: ResNet-50 and two branches, for boundaries and for displacements to instances' centres.

J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations",
CVPR 2019, sections 4 and 5; state dict `irn`.
"""

import math
from typing import ClassVar, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.layers import Conv, scaled_channels
from wsss_jax.models.norms import GroupNorm
from wsss_jax.models.resnet50 import OnResNet50
from wsss_jax.ops.resize import resize_bilinear, resize_valid
from wsss_jax.ops.valid import after_stride
from wsss_jax.task import Variables

_LAYERS = ("stem", "layer1", "layer2", "layer3", "layer4")
_STRIDES = (4, 4, 8, 16, 16)
_EDGE = (32, 4)  # channels of the boundary branch's first layers, and groups of their norms
_FIELD = ((64, 8), (128, 16), (256, 16), (256, 16), (256, 16))  # the same of the displacement branch
_JOINT = (256, 16)


class Seen(NamedTuple):
    """What the network says of images, at stride 4."""

    boundaries: jax.Array  # float32[B, ceil(H / 4), ceil(W / 4)], logits
    displacements: jax.Array  # float32[B, ceil(H / 4), ceil(W / 4), 2], (dy, dx) as in training


class _Grid(NamedTuple):
    """Padded arrays and the images in them."""

    shape: tuple[int, int]  # (H, W) of the arrays
    sizes: jax.Array | None  # int32[B, 2] of the images; None for those of the arrays

    def sizes_at(self, stride: int) -> jax.Array | None:
        """Of feature maps."""
        return after_stride(self.sizes, stride)

    def enlarged(self, x: jax.Array, stride: int, wanted: int) -> jax.Array:
        """From one stride to a smaller one: bilinear by the whole factor, half-pixel convention, then cut; at
        its border an image's own edge is repeated, not what lies beyond it."""
        if stride == wanted:
            return x
        factor, (height, width) = stride // wanted, (-(-n // wanted) for n in self.shape)
        if self.sizes is None:
            return resize_bilinear(x, (factor * x.shape[1], factor * x.shape[2]))[:, :height, :width]
        sizes = after_stride(self.sizes, stride)
        return resize_valid(x, sizes, factor * sizes, (height, width))


class _Unit(nn.Module):
    """A 1x1 convolution and a group norm over the image alone."""

    features: int
    groups: int

    @nn.compact
    def __call__(self, x: jax.Array, sizes: jax.Array | None) -> jax.Array:
        x = Conv(self.features, 1, name="conv")(x)
        return GroupNorm(self.groups, name="norm")(x, sizes)


class MeanShift(nn.Module):
    """The mean of all displacements, measured after training; 0 until then.

    Training and boundaries do without it.
    """

    @nn.compact
    def __call__(self) -> jax.Array:
        """float32[2]: the mean."""
        return self.variable("batch_stats", "mean", jnp.zeros, (2,), jnp.float32).value


class Irn(OnResNet50):
    """Boundaries and displacements.

    Nothing reaches the trunk from behind: no gradient, and its batch norms keep their stored statistics.
    """

    state_dict = "irn"
    heads = (
        *(f"fc_edge{i}" for i in range(1, 7)),
        *(f"fc_dp{i}" for i in range(1, 8)),
        "fc_dp7_field",
        "mean_shift",
    )
    map_stride: ClassVar[int] = 4  # of what it says, where `stride` is the trunk's

    @nn.compact
    def __call__(self, images: jax.Array, sizes: jax.Array | None = None) -> Seen:
        """Normalised images [B, H, W, 3] -> what it says of them.

        With `sizes` int32[B, 2] they lie inside padded arrays, and what comes out is that of the images
        alone, in the first ceil(size / 4) rows and columns.
        """
        found = jax.lax.stop_gradient(self._features(images, sizes))
        grid = _Grid((images.shape[1], images.shape[2]), sizes)
        features = [found[layer].astype(jnp.float32) for layer in _LAYERS]
        MeanShift(name="mean_shift")()  # declares it
        return Seen(self._boundaries(features, grid), self._displacements(features, grid))

    def _boundaries(self, features: list[jax.Array], grid: _Grid) -> jax.Array:
        maps = []
        for i, (x, stride) in enumerate(zip(features, _STRIDES, strict=True), 1):
            x = self._unit(f"fc_edge{i}", *_EDGE)(x, grid.sizes_at(stride))
            maps.append(nn.relu(grid.enlarged(x, stride, 4)))  # after the enlargement, as in IRN
        return Conv(1, 1, bias=True, name="fc_edge6")(jnp.concatenate(maps, -1))[..., 0]

    def _displacements(self, features: list[jax.Array], grid: _Grid) -> jax.Array:
        maps = []
        for i, (x, stride, layer) in enumerate(zip(features, _STRIDES, _FIELD, strict=True), 1):
            x = self._unit(f"fc_dp{i}", *layer)(x, grid.sizes_at(stride))
            maps.append(nn.relu(grid.enlarged(x, stride, min(stride, 8))))
        deep = self._unit("fc_dp6", *_JOINT)(jnp.concatenate(maps[2:], -1), grid.sizes_at(8))
        joint = jnp.concatenate([*maps[:2], nn.relu(grid.enlarged(deep, 8, 4))], -1)
        joint = nn.relu(self._unit("fc_dp7", *_JOINT)(joint, grid.sizes_at(4)))
        return Conv(2, 1, name="fc_dp7_field")(joint)

    def _unit(self, name: str, features: int, groups: int) -> _Unit:
        features = scaled_channels(features, self.width)
        return _Unit(features, math.gcd(groups, features), name=name)


def look(network: Irn, variables: Variables, images: jax.Array, sizes: jax.Array | None = None) -> Seen:
    """What the network says of prepared images; arguments as in `Irn`."""
    return cast(Seen, network.apply(variables, images, sizes))
