"""WaveCAM's two networks: a classifier on ResNet-50, and the predictor, which tells a class by its feature.

R. Xu et al. (WaveCAM, see `task`), after ReCAM (Z. Chen et al., CVPR 2022), whose predictor has no waves.
State dicts `wavecam_net` and `wavecam_predictor`.
"""

from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.layers import Conv
from wsss_jax.models.resnet50 import OnResNet50
from wsss_jax.ops.valid import after_stride, global_average
from wsss_jax.systems.wave_cam.wave import WaveModule


class WaveScores(NamedTuple):
    """What the classifier says of a batch."""

    features: jax.Array  # float32[B, h, w, D], the last feature map, stride 16
    maps: jax.Array  # float32[B, h, w, C], class scores per position, no ReLU
    logits: jax.Array  # float32[B, C], their mean over the image


class WaveClassifier(OnResNet50):
    """layer4 - `classifier` at every position - global average, as in IRN's classifier.

    Its second head, `bg`, is in the published files and never used.
    """

    num_classes: int

    state_dict = "wavecam_net"
    heads = ("classifier", "bg")

    @nn.compact
    def __call__(
        self, images: jax.Array, sizes: jax.Array | None = None, keys: jax.Array | None = None
    ) -> WaveScores:
        """Scores normalised images [B, H, W, 3]; `sizes` as in `ResNet50`, and no use for `keys`."""
        layer4 = self._features(images, sizes)["layer4"]
        maps = self._head("classifier")(layer4).astype(jnp.float32)
        self._head("bg")(layer4)
        logits = global_average(maps, after_stride(sizes, self.stride))
        return WaveScores(layer4.astype(jnp.float32), maps, logits)

    def _head(self, name: str) -> Conv:
        return Conv(self.num_classes, 1, dtype=self.dtype, name=name)


class Predictor(nn.Module):
    """Tells a class by the mean feature of where its map is strong, to which the waves of all maps are added.

    Attributes:
      num_classes: C.
      channels: D, of the features.
      wave: whether waves are added; without them it is ReCAM's predictor, and the wave module's weights are
        there and not used.
    """

    num_classes: int
    channels: int
    wave: bool = True

    state_dict = "wavecam_predictor"
    heads = ("classifier", "wave")
    blocks = (0, 0, 0, 0)  # it has no trunk
    with_background = False

    @nn.compact
    def __call__(self, class_features: jax.Array, cams: jax.Array) -> jax.Array:
        """Logits float32[B, C, C] of each class's feature.

        Args:
          class_features: float32[B, C, D], see `class_features`.
          cams: float32[B, h, w, C], see `normalised_cams`; with waves, 2 * h * w must be D.
        """
        if self.wave or self.is_initializing():
            # The waves' [2 * C, h, w] is reshaped to [C, D]: class k gets channels 2 * k and 2 * k + 1, and
            # their positions are added onto feature channels. The first half of the classes so sees the waves
            # along rows only, the second half those along columns.
            waves = WaveModule(self.num_classes, name="wave")(cams)
            class_features = class_features + waves.transpose(0, 3, 1, 2).reshape(class_features.shape)
        return Conv(self.num_classes, 1, name="classifier")(class_features[:, :, None])[:, :, 0]

    @property
    def inputs(self) -> tuple[jax.Array, ...]:
        """Of one image, to make parameters with."""
        C, D = self.num_classes, self.channels
        return jnp.zeros((1, C, D)), jnp.zeros((1, D // 2, 1, C))


def normalised_cams(maps: jax.Array) -> jax.Array:
    """Each class divided by (its maximum over the image + 1e-5), after ReLU: [B, h, w, C] -> 0..1.

    Gradients flow through the maximum, too.
    """
    positive = nn.relu(maps)
    return positive / (positive.max((1, 2), keepdims=True) + 1e-5)


def class_features(cams: jax.Array, features: jax.Array) -> jax.Array:
    """Mean over positions of map times feature: [B, h, w, C], [B, h, w, D] -> [B, C, D]."""
    positions = cams.shape[1] * cams.shape[2]
    return jnp.einsum("bhwc,bhwd->bcd", cams, features) / positions


def score_waves(
    network: WaveClassifier, variables: dict[str, Any], images: jax.Array, sizes: jax.Array | None = None
) -> WaveScores:
    """Applies the network: `network.apply`, which knows no types, with types."""
    return cast(WaveScores, network.apply(variables, images, sizes))
