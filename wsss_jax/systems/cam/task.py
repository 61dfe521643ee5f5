"""`cam`: the ordinary classifier and its class activation maps.

B. Zhou et al.: "Learning Deep Features for Discriminative Localization", CVPR 2016, in the form of psa
(J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision", CVPR 2018).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax

from wsss_jax.method import Method
from wsss_jax.models.classifier import Classifier, Scores, score
from wsss_jax.ops.losses import multi_label_soft_margin
from wsss_jax.systems.resnet38.one_network import OneNetwork
from wsss_jax.task import Outcome, Progress, Term, Variables


@dataclass(frozen=True, kw_only=True)
class Cam(OneNetwork[Classifier], Method):
    """Trains a multi-label classifier; its CAM is ReLU(conv6 x fc8)."""

    name = "classifier"
    terms = ("loss_cls",)

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array | None,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> Outcome:
        """Multi-label soft margin loss."""
        scores = score(self.network, variables[self.name], batch["images"], keys=keys)
        return Outcome({"loss_cls": Term(multi_label_soft_margin(scores.logits, batch["labels"]))})

    def cam(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> Scores:
        """psa applies the ReLU before it resizes the maps (OC-CSE after)."""
        scores = score(self.network, variables[self.name], images, sizes)
        return Scores(jax.nn.relu(scores.maps), scores.logits)
