"""`sc_cam`: class activation maps of a classifier that must also tell subcategories apart.

Y.-T. Chang et al.: "Weakly-Supervised Semantic Segmentation via Subcategory Exploration", CVPR 2020
(SC-CAM).

The subcategories are clusters of the features of the round before, made by the stages `features` and
`cluster`; to tell them apart, the classifier has to look at more than a class's most discriminative part.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from wsss_jax.method import Method
from wsss_jax.models.classifier import Scores
from wsss_jax.ops.losses import multi_label_soft_margin
from wsss_jax.ops.normalise import max_normalise
from wsss_jax.systems.resnet38.one_network import OneNetwork
from wsss_jax.systems.sc_cam.network import SubcategoryClassifier, score_subcategories
from wsss_jax.task import Outcome, Progress, Term, Variables


@dataclass(frozen=True, kw_only=True)
class ScCam(OneNetwork[SubcategoryClassifier], Method):
    """Trains both heads on one trunk; the maps are the classes', or those of their subcategories, merged.

    Attributes:
      network, frozen_blocks: see `OneNetwork`; C classes and C * k subcategories.
      sub_weight: weight of the subcategories' loss (5).
      maps: 'classes', as published, or 'subcategories', the merged maps of each class's subcategories.
    """

    sub_weight: float
    maps: str = "classes"

    name = "classifier"
    terms = ("loss_class", "loss_sub", "accuracy_class", "accuracy_sub")

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array | None,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> Outcome:
        """Soft margin of the classes, plus `sub_weight` times that of the subcategories.

        The batch also has `sub_labels` float32[B, C * k]: 1 for the subcategory of each class in the
        image. keys=None switches dropout off.
        """
        scores = score_subcategories(self.network, variables[self.name], batch["images"], keys=keys)
        classes, subcategories = scores.classes.logits, scores.subcategories.logits
        terms = {
            "loss_class": Term(multi_label_soft_margin(classes, batch["labels"])),
            "loss_sub": Term(
                multi_label_soft_margin(subcategories, batch["sub_labels"]), weight=self.sub_weight
            ),
            "accuracy_class": Term(label_accuracy(classes, batch["labels"]), weight=0),
            "accuracy_sub": Term(label_accuracy(subcategories, batch["sub_labels"]), weight=0),
        }
        return Outcome(terms)

    def cam(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> Scores:
        """Maps after the ReLU, as psa's before they are resized: C of them, or C * k, class by class."""
        scores = score_subcategories(self.network, variables[self.name], images, sizes)
        maps = scores.classes.maps if self.maps == "classes" else scores.subcategories.maps
        return Scores(jax.nn.relu(maps), scores.classes.logits)

    def finish(self, total: jax.Array, sizes: jax.Array) -> jax.Array:
        """Each class by its own maximum; of subcategories, by the maximum of all k together.

        The original divides before it merges, which is the same: a class's k maps have one divisor.
        """
        if self.maps == "subcategories":
            total = total.reshape(*total.shape[:3], -1, self._per_class).max(-1)
        return max_normalise(total, sizes)

    @property
    def _per_class(self) -> int:
        return self.network.num_subcategories // self.network.num_classes


def label_accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """|predicted and true| / |predicted or true| labels of each image: [B, N] each -> [B].

    A label is predicted where its probability is above 0.5. SC-CAM's log calls this 'acc'; an image without
    either has 1.
    """
    predicted, true = logits > 0, labels > 0
    either = (predicted | true).sum(1)
    return jnp.where(either > 0, (predicted & true).sum(1) / jnp.maximum(either, 1), 1.0)
