"""SC-CAM's network: ResNet-38 with a head for the classes and one for their sub-categories.

State dict `sccam_k10`. Its heads are called `fc8_20` and `fc8_200` whatever the number of classes and of
sub-categories, as in the published files, so that any of them converts by the same names.
"""

from typing import Any, ClassVar, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.classifier import Scores
from wsss_jax.models.layers import Conv, Dropout2d, xavier_init
from wsss_jax.models.resnet38 import PUBLISHED_BLOCKS, PUBLISHED_DILATIONS, STRIDE, ResNet38
from wsss_jax.ops.conv import WeightGradient
from wsss_jax.ops.valid import after_stride, global_average

_HEAD_SITE = 4  # after the four dropout layers of the trunk


class FamilyScores(NamedTuple):
    """What the network says of a batch."""

    parents: Scores  # of the C classes
    children: Scores  # of the C * k sub-categories; number s of class c is c * k + s


class SubcategoryClassifier(nn.Module):
    """conv6 - channel dropout - both heads at every position - global average.

    SC-CAM pools first and applies the heads to the mean; they have no bias and are linear, so both orders
    give the same logits, and this one gives the maps without a second product.

    Attributes:
      num_classes: C.
      num_children: C * k.
      width, blocks, dilations, trunk_dropout, weight_gradient, dtype: see `ResNet38`.
      head_dropout: of conv6's channels; both heads see the same draw.
    """

    num_classes: int
    num_children: int
    width: float = 1.0
    blocks: tuple[int, int, int, int] = PUBLISHED_BLOCKS
    dilations: tuple[int, int, int] = PUBLISHED_DILATIONS
    trunk_dropout: tuple[float, float] = (0.3, 0.5)
    head_dropout: float = 0.5
    weight_gradient: WeightGradient = "stock"
    dtype: Any = jnp.float32

    state_dict: ClassVar[str] = "sccam_k10"  # its name in `weights.networks`
    heads: ClassVar[tuple[str, ...]] = ("fc8_20", "fc8_200")  # what ImageNet weights do not have

    @nn.compact
    def __call__(
        self, images: jax.Array, sizes: jax.Array | None = None, keys: jax.Array | None = None
    ) -> FamilyScores:
        """Scores normalised images [B, H, W, 3]; `sizes` and `keys` as in `ResNet38`."""
        common: dict[str, Any] = {"weight_gradient": self.weight_gradient, "dtype": self.dtype}
        trunk = ResNet38(self.width, self.blocks, self.dilations, self.trunk_dropout, **common, name="trunk")
        conv6 = Dropout2d(self.head_dropout, _HEAD_SITE)(trunk(images, sizes, keys)["conv6"], keys)
        sizes = after_stride(sizes, STRIDE)

        def head(features: int, name: str) -> Scores:
            maps = Conv(features, 1, **common, init=xavier_init, name=name)(conv6).astype(jnp.float32)
            return Scores(maps, global_average(maps, sizes))

        return FamilyScores(head(self.num_classes, "fc8_20"), head(self.num_children, "fc8_200"))


class PooledFeatures(nn.Module):
    """The trunk alone, and conv6's mean over the picture: what SC-CAM clusters."""

    width: float = 1.0
    blocks: tuple[int, int, int, int] = PUBLISHED_BLOCKS
    dilations: tuple[int, int, int] = PUBLISHED_DILATIONS
    dtype: Any = jnp.float32

    state_dict: ClassVar[str] = "resnet38_base"
    heads: ClassVar[tuple[str, ...]] = ()

    @nn.compact
    def __call__(self, images: jax.Array, sizes: jax.Array | None = None) -> jax.Array:
        """Normalised images [B, H, W, 3] -> float32[B, 4096 * width]; `sizes` as in `ResNet38`."""
        trunk = ResNet38(self.width, self.blocks, self.dilations, dtype=self.dtype, name="trunk")
        conv6 = trunk(images, sizes)["conv6"].astype(jnp.float32)
        return global_average(conv6, after_stride(sizes, STRIDE))


def family_score(
    network: SubcategoryClassifier,
    variables: dict[str, Any],
    images: jax.Array,
    sizes: jax.Array | None = None,
    keys: jax.Array | None = None,
) -> FamilyScores:
    """Applies the network: `network.apply`, which knows no types, with types."""
    return cast(FamilyScores, network.apply(variables, images, sizes, keys))
