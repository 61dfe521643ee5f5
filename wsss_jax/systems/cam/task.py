"""`cam`: the ordinary classifier and its class activation maps.

B. Zhou et al.: "Learning Deep Features for Discriminative Localization", CVPR 2016, in the form of psa
(J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision", CVPR 2018).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax

from wsss_jax.method import Metrics, Progress, Variables
from wsss_jax.models.classifier import Classifier, Scores, score
from wsss_jax.ops.losses import multi_label_soft_margin
from wsss_jax.systems.resnet38.independent import Independent
from wsss_jax.systems.resnet38.maps import Stride8Maps
from wsss_jax.systems.resnet38.one_network import OneNetwork


@dataclass(frozen=True, kw_only=True)
class Cam(OneNetwork[Classifier], Independent, Stride8Maps):
    """Trains a multi-label classifier; its CAM is ReLU(conv6 x fc8)."""

    trained = "classifier"
    metrics = ("loss",)

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> tuple[jax.Array, Metrics]:
        """Multi-label soft margin loss."""
        scores = score(self.network, variables[self.trained], batch["images"], keys=keys)
        loss = multi_label_soft_margin(scores.logits, batch["labels"])
        return loss, {"loss": loss}

    def cam(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> Scores:
        """psa applies the ReLU before it resizes the maps (OC-CSE after)."""
        scores = score(self.network, variables[self.trained], images, sizes)
        return Scores(jax.nn.relu(scores.maps), scores.logits)
