"""CPN's network: a classifier with background on ResNet-38, and a branch that improves its maps by what
pixels and regions have in common (pixel-region correlation module, PRCM).

F. Zhang, C. Gu, C. Zhang, Y. Dai: "Complementary Patch for Weakly Supervised Semantic Segmentation", ICCV
2021. State dict `cpn`. The branch and the pixel correlation module (PCM) are those of SEAM (Y. Wang et al.,
CVPR 2020), whose network (`models.seam`) is this one without regions.
"""

from typing import Any, ClassVar, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.layers import kaiming_init, scaled_channels, wide_xavier_init, xavier_init
from wsss_jax.models.resnet38 import OnResNet38
from wsss_jax.ops.correlation import correlate
from wsss_jax.ops.resize import resize_valid, resized_mean
from wsss_jax.ops.selection import max_onehot
from wsss_jax.ops.valid import after_stride, softmax_over_positions, valid_max, zero_outside


class CpnScores(NamedTuple):
    """What the network says of a batch; channel 0 is background."""

    maps: jax.Array  # float32[B, h, w, C + 1], class scores per position, no ReLU, stride 8
    improved: jax.Array  # float32[B, h, w, C + 1], >= 0, the maps after PCM and PRCM, stride 8, 0 outside
    logits: jax.Array  # float32[B, C + 1], mean of the maps as they are after resizing to the image's size


class CpnNetwork(OnResNet38):
    """conv6 - channel dropout - `fc8` at every position, and the improved maps.

    CPN's code resizes both kinds of maps to the input's size with aligned corners before it returns them.
    Here they come at stride 8, and who needs them larger resizes them: inference goes on to the image's
    size in the same product, and the logits need no full-size map.
    """

    num_classes: int  # C, without background
    head_dropout: float = 0.5
    branch_width: float | None = None  # multiplier of the branch's channels; None is that of the trunk

    state_dict = "cpn"
    with_background = True
    heads: ClassVar[tuple[str, ...]] = ("fc8", "f8_3", "f8_4", "f9", "f10")

    @nn.compact
    def __call__(
        self, images: jax.Array, sizes: jax.Array | None = None, keys: jax.Array | None = None
    ) -> CpnScores:
        """Scores normalised images [B, H, W, 3]; `sizes` and `keys` as in `ResNet38`."""
        features = self._features(images, sizes, keys)
        conv6 = self._dropped(features["conv6"], self.head_dropout, keys)
        maps = self._pointwise(self.num_classes + 1, xavier_init, "fc8")(conv6).astype(jnp.float32)
        shape = (images.shape[1], images.shape[2])
        full = jnp.tile(jnp.array(shape), (len(images), 1)) if sizes is None else sizes
        small = after_stride(full, self.stride)
        colours = resize_valid(images, full, small, (maps.shape[1], maps.shape[2]), align_corners=True)
        side = zero_outside(self._side(colours, features), small)
        improved = self._improve(normalised_maps(maps, small), side, small)
        return CpnScores(maps, improved, resized_mean(maps, small, full, shape))

    def _side(self, colours: jax.Array, features: dict[str, jax.Array]) -> jax.Array:
        """The image at stride 8, and conv4 and conv5 seen through 64 and 128 channels: float32[B, h, w, 195].

        The trunk does not learn through them.
        """
        parts = [colours]
        for name, source, channels in (("f8_3", "conv4", 64), ("f8_4", "conv5", 128)):
            conv = self._pointwise(self._branch_channels(channels), kaiming_init, name)
            feature = conv(jax.lax.stop_gradient(features[source]))
            parts.append(nn.relu(feature).astype(jnp.float32))
        return jnp.concatenate(parts, -1)

    def _improve(self, spread: jax.Array, side: jax.Array, sizes: jax.Array) -> jax.Array:
        """PCM + PRCM * maps: [B, h, w, C + 1] and [B, h, w, 195], both 0 outside -> [B, h, w, C + 1]."""
        B, _, _, K = spread.shape
        shared = self._shared(side)
        regions = jnp.einsum("bhwk,bhwd->bkd", softmax_over_positions(spread, sizes), side)
        f10 = self._pointwise(self._branch_channels(192), wide_xavier_init, "f10")
        keys = nn.relu(f10(regions[:, :, None]))
        # Not a transposition: CPN's code has [B, 192, C + 1] here and *reshapes* it, so that a key holds
        # channels of several classes. The published weights were trained with it.
        keys = keys[:, :, 0].astype(jnp.float32).swapaxes(1, 2).reshape(B, K, -1)
        alike = jnp.einsum("bkd,bhwd->bhwk", keys, nn.relu(shared)) * K**-0.5
        return correlate(spread, shared) + softmax_over_positions(alike, sizes) * spread

    def _shared(self, side: jax.Array) -> jax.Array:
        """What PCM compares, and what PRCM's queries are: float32[B, h, w, 192]."""
        f9 = self._pointwise(self._branch_channels(192), wide_xavier_init, "f9")
        return f9(side).astype(jnp.float32)

    def _branch_channels(self, published: int) -> int:
        return scaled_channels(published, self.width if self.branch_width is None else self.branch_width)


def normalised_maps(maps: jax.Array, sizes: jax.Array) -> jax.Array:
    """What PCM and PRCM spread, without gradient: [B, h, w, C + 1] -> 0..1, 0 outside.

    Each class is divided by its maximum, only the best one of each position stays, and the background is what
    it leaves (channel 0 of `maps` itself is not used).
    """
    positive = jax.nn.relu(jax.lax.stop_gradient(maps[..., 1:]))
    classes = jax.nn.relu(positive - 1e-5) / (valid_max(positive, sizes) + 1e-5)
    best, kept = classes.max(-1, keepdims=True), max_onehot(classes)
    return zero_outside(jnp.concatenate([1 - best, kept], -1), sizes)


def score_cpn(
    network: CpnNetwork,
    variables: dict[str, Any],
    images: jax.Array,
    sizes: jax.Array | None = None,
    keys: jax.Array | None = None,
) -> CpnScores:
    """Applies the network: `network.apply`, which knows no types, with types."""
    return cast(CpnScores, network.apply(variables, images, sizes, keys))
