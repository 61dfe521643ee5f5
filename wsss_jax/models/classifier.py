"""The classifier on ResNet-38: a bias-free 1x1 head whose maps are the class activation maps.

State dict `resnet38_cls` (psa); OC-CSE's two networks, SC-CAM's round 0 and InferCam use the same one.
"""

from typing import Any, ClassVar, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.layers import Conv, Dropout2d, xavier_init
from wsss_jax.models.resnet38 import PUBLISHED_BLOCKS, PUBLISHED_DILATIONS, STRIDE, ResNet38
from wsss_jax.ops.conv import WeightGradient
from wsss_jax.ops.valid import after_stride, global_average

_HEAD_SITE = 4  # after the four dropout layers of the trunk


class Scores(NamedTuple):
    """What the classifier says of a batch."""

    maps: jax.Array  # [B, h, w, C], class scores per position, no ReLU, stride 8
    logits: jax.Array  # [B, C], their mean over the picture


class Classifier(nn.Module):
    """conv6 - channel dropout - `fc8` at every position - global average.

    psa pools first and applies `fc8` to the mean; the head has no bias and is linear, so both orders give the
    same logits, and this one gives the maps without a second product.
    """

    num_classes: int
    width: float = 1.0
    blocks: tuple[int, int, int, int] = PUBLISHED_BLOCKS
    dilations: tuple[int, int, int] = PUBLISHED_DILATIONS
    trunk_dropout: tuple[float, float] = (0.3, 0.5)
    head_dropout: float = 0.5
    weight_gradient: WeightGradient = "stock"
    dtype: Any = jnp.float32

    state_dict: ClassVar[str] = "resnet38_cls"  # its name in `weights.networks`
    heads: ClassVar[tuple[str, ...]] = ("fc8",)  # what ImageNet weights do not have

    @nn.compact
    def __call__(
        self, images: jax.Array, sizes: jax.Array | None = None, keys: jax.Array | None = None
    ) -> Scores:
        """Scores normalised images [B, H, W, 3]; `sizes` and `keys` as in `ResNet38`."""
        common: dict[str, Any] = {"weight_gradient": self.weight_gradient, "dtype": self.dtype}
        trunk = ResNet38(self.width, self.blocks, self.dilations, self.trunk_dropout, **common, name="trunk")
        conv6 = Dropout2d(self.head_dropout, _HEAD_SITE)(trunk(images, sizes, keys)["conv6"], keys)
        maps = Conv(self.num_classes, 1, **common, init=xavier_init, name="fc8")(conv6).astype(jnp.float32)
        return Scores(maps, global_average(maps, after_stride(sizes, STRIDE)))


def score(
    network: Classifier,
    variables: dict[str, Any],
    images: jax.Array,
    sizes: jax.Array | None = None,
    keys: jax.Array | None = None,
) -> Scores:
    """Applies the network: `network.apply`, which knows no types, with types."""
    return cast(Scores, network.apply(variables, images, sizes, keys))
