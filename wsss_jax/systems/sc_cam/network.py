"""SC-CAM's network: ResNet-38 with a head for the classes and one for their subcategories.

State dict `sccam_k10`. Its heads are called `fc8_20` and `fc8_200` whatever the number of classes and of
subcategories, as in the published files, so that any of them converts by the same names.
"""

from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.classifier import Scores
from wsss_jax.models.layers import xavier_init
from wsss_jax.models.resnet38 import OnResNet38
from wsss_jax.ops.valid import after_stride, global_average


class SubcategoryScores(NamedTuple):
    """What the network says of a batch."""

    classes: Scores  # of the C classes
    subcategories: Scores  # of the C * k subcategories; number s of class c is c * k + s


class SubcategoryClassifier(OnResNet38):
    """conv6 - channel dropout - both heads at every position - global average.

    SC-CAM pools first and applies the heads to the mean; they have no bias and are linear, so both orders
    give the same logits, and this one gives the maps without a second product.

    Attributes:
      num_classes: C.
      num_subcategories: C * k.
      head_dropout: of conv6's channels; both heads see the same draw.
    """

    num_classes: int
    num_subcategories: int
    head_dropout: float = 0.5

    state_dict = "sccam_k10"
    heads = ("fc8_20", "fc8_200")

    @nn.compact
    def __call__(
        self, images: jax.Array, sizes: jax.Array | None = None, keys: jax.Array | None = None
    ) -> SubcategoryScores:
        """Scores normalised images [B, H, W, 3]; `sizes` and `keys` as in `ResNet38`."""
        conv6 = self._dropped(self._features(images, sizes, keys)["conv6"], self.head_dropout, keys)
        sizes = after_stride(sizes, self.stride)

        def head(features: int, name: str) -> Scores:
            maps = self._pointwise(features, xavier_init, name)(conv6).astype(jnp.float32)
            return Scores(maps, global_average(maps, sizes))

        return SubcategoryScores(head(self.num_classes, "fc8_20"), head(self.num_subcategories, "fc8_200"))


class PooledFeatures(OnResNet38):
    """The trunk alone, and conv6's mean over the image: what SC-CAM clusters."""

    state_dict = "resnet38_base"
    heads = ()

    @nn.compact
    def __call__(self, images: jax.Array, sizes: jax.Array | None = None) -> jax.Array:
        """Normalised images [B, H, W, 3] -> float32[B, 4096 * width]; `sizes` as in `ResNet38`."""
        conv6 = self._features(images, sizes, None)["conv6"].astype(jnp.float32)
        return global_average(conv6, after_stride(sizes, self.stride))


def score_subcategories(
    network: SubcategoryClassifier,
    variables: dict[str, Any],
    images: jax.Array,
    sizes: jax.Array | None = None,
    keys: jax.Array | None = None,
) -> SubcategoryScores:
    """Applies the network: `network.apply`, which knows no types, with types."""
    return cast(SubcategoryScores, network.apply(variables, images, sizes, keys))
