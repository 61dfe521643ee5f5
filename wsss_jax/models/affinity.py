"""AffinityNet: ResNet-38 and three branches, whose joint features are alike where pixels belong together.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised
Semantic Segmentation", CVPR 2018, section 3.2; state dict `resnet38_aff`. Affinities are made of the features
by `ops.stencil.feature_affinities`.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.layers import Conv
from wsss_jax.models.resnet38 import PUBLISHED_BLOCKS, PUBLISHED_DILATIONS, ResNet38
from wsss_jax.ops.conv import WeightGradient

# PyTorch's kaiming_normal_ and xavier_uniform_(gain=4): psa starts its new layers so.
_branch_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
_joint_init = nn.initializers.variance_scaling(16.0, "fan_avg", "uniform")


class AffinityNet(nn.Module):
    """ELU(f9([ELU(f8_3 conv4), ELU(f8_4 conv5), ELU(f8_5 conv6)])), all 1x1; attributes as in `ResNet38`."""

    width: float = 1.0
    blocks: tuple[int, int, int, int] = PUBLISHED_BLOCKS
    dilations: tuple[int, int, int] = PUBLISHED_DILATIONS
    trunk_dropout: tuple[float, float] = (0.3, 0.5)
    weight_gradient: WeightGradient = "stock"
    dtype: Any = jnp.float32

    state_dict: ClassVar[str] = "resnet38_aff"  # its name in `weights.networks`
    heads: ClassVar[tuple[str, ...]] = ("f8_3", "f8_4", "f8_5", "f9")  # what ImageNet weights do not have

    @nn.compact
    def __call__(
        self, images: jax.Array, sizes: jax.Array | None = None, keys: jax.Array | None = None
    ) -> jax.Array:
        """Normalised images [B, H, W, 3] -> float32[B, ceil(H / 8), ceil(W / 8), 448 * width]; `sizes` and
        `keys` as in `ResNet38`."""
        common: dict[str, Any] = {"weight_gradient": self.weight_gradient, "dtype": self.dtype}
        trunk = ResNet38(self.width, self.blocks, self.dilations, self.trunk_dropout, **common, name="trunk")
        features = trunk(images, sizes, keys)
        branches = []
        for name, feature, published in (
            ("f8_3", "conv4", 64),
            ("f8_4", "conv5", 128),
            ("f8_5", "conv6", 256),
        ):
            channels = max(1, int(published * self.width))
            branches.append(
                nn.elu(Conv(channels, 1, **common, init=_branch_init, name=name)(features[feature]))
            )
        joint = jnp.concatenate(branches, axis=-1)
        joint = nn.elu(Conv(joint.shape[-1], 1, **common, init=_joint_init, name="f9")(joint))
        return joint.astype(jnp.float32)
