"""The classifier on ResNet-38: a bias-free 1x1 head whose maps are the class activation maps.

State dict `resnet38_cls` (psa); OC-CSE's two networks, SC-CAM's round 0 and InferCam use the same one.
"""

from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.layers import xavier_init
from wsss_jax.models.resnet38 import OnResNet38
from wsss_jax.ops.valid import after_stride, global_average


class Scores(NamedTuple):
    """What the classifier says of a batch."""

    maps: jax.Array  # [B, h, w, C], class scores per position, no ReLU, stride 8
    logits: jax.Array  # [B, C], their mean over the image


class Classifier(OnResNet38):
    """conv6 - channel dropout - `fc8` at every position - global average.

    psa pools first and applies `fc8` to the mean; the head has no bias and is linear, so both orders give the
    same logits, and this one gives the maps without a second product.
    """

    num_classes: int
    head_dropout: float = 0.5

    state_dict = "resnet38_cls"
    heads = ("fc8",)

    @nn.compact
    def __call__(
        self, images: jax.Array, sizes: jax.Array | None = None, keys: jax.Array | None = None
    ) -> Scores:
        """Scores normalised images [B, H, W, 3]; `sizes` and `keys` as in `ResNet38`."""
        conv6 = self._dropped(self._features(images, sizes, keys)["conv6"], self.head_dropout, keys)
        maps = self._pointwise(self.num_classes, xavier_init, "fc8")(conv6).astype(jnp.float32)
        return Scores(maps, global_average(maps, after_stride(sizes, self.stride)))


def score(
    network: Classifier,
    variables: dict[str, Any],
    images: jax.Array,
    sizes: jax.Array | None = None,
    keys: jax.Array | None = None,
) -> Scores:
    """Applies the network: `network.apply`, which knows no types, with types."""
    return cast(Scores, network.apply(variables, images, sizes, keys))
