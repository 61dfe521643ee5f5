"""The classifier on ResNet-50, whose maps are IRN's class activation maps and where WaveCAM starts.

State dict `resnet50_cam` (J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance Segmentation with
Inter-pixel Relations", CVPR 2019).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.classifier import Scores
from wsss_jax.models.layers import Conv
from wsss_jax.models.resnet50 import OnResNet50
from wsss_jax.ops.valid import after_stride, global_average


class Classifier50(OnResNet50):
    """layer4 - `classifier` at every position - global average.

    IRN's code pools first and classifies the mean; the head has no bias and is linear, so both orders give
    the same logits.
    """

    num_classes: int

    state_dict = "resnet50_cam"
    heads = ("classifier",)

    @nn.compact
    def __call__(
        self, images: jax.Array, sizes: jax.Array | None = None, keys: jax.Array | None = None
    ) -> Scores:
        """Scores normalised images [B, H, W, 3]; `sizes` as in `ResNet50`, and no use for `keys`."""
        layer4 = self._features(images, sizes)["layer4"]
        maps = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(layer4).astype(jnp.float32)
        return Scores(maps, global_average(maps, after_stride(sizes, self.stride)))
