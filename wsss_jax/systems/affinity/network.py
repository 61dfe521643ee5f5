"""AffinityNet: ResNet-38 and three branches, whose joint features are alike where pixels belong together.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised
Semantic Segmentation", CVPR 2018, section 3.2; state dict `resnet38_aff`. Affinities are made of the features
by `ops.stencil.feature_affinities`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.layers import kaiming_init, wide_xavier_init
from wsss_jax.models.resnet38 import OnResNet38


class AffinityNet(OnResNet38):
    """ELU(f9([ELU(f8_3 conv4), ELU(f8_4 conv5), ELU(f8_5 conv6)])), all 1x1."""

    state_dict = "resnet38_aff"
    heads = ("f8_3", "f8_4", "f8_5", "f9")

    @nn.compact
    def __call__(
        self, images: jax.Array, sizes: jax.Array | None = None, keys: jax.Array | None = None
    ) -> jax.Array:
        """Normalised images [B, H, W, 3] -> float32[B, ceil(H / 8), ceil(W / 8), 448 * width]; `sizes` and
        `keys` as in `ResNet38`."""
        features = self._features(images, sizes, keys)
        branches = []
        for name, feature, published in (
            ("f8_3", "conv4", 64),
            ("f8_4", "conv5", 128),
            ("f8_5", "conv6", 256),
        ):
            branch = self._pointwise(self._channels(published), kaiming_init, name)
            branches.append(nn.elu(branch(features[feature])))
        joint = jnp.concatenate(branches, axis=-1)
        joint = nn.elu(self._pointwise(joint.shape[-1], wide_xavier_init, "f9")(joint))
        return joint.astype(jnp.float32)
