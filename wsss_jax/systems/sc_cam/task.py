"""`sc_cam`: class activation maps of a classifier that must also tell sub-categories apart.

Y.-T. Chang et al.: "Weakly-Supervised Semantic Segmentation via Sub-category Exploration", CVPR 2020
(SC-CAM).

The sub-categories are clusters of the features of the round before, made by the stages `features` and
`cluster`; to tell them apart, the classifier has to look at more than a class's most telling part.
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
from wsss_jax.systems.sc_cam.network import SubcategoryClassifier, family_score
from wsss_jax.task import Outcome, Progress, Term, Variables


@dataclass(frozen=True, kw_only=True)
class ScCam(OneNetwork[SubcategoryClassifier], Method):
    """Trains both heads on one trunk; the maps are the classes', or those of their sub-categories, merged.

    Attributes:
      network, frozen_blocks: see `OneNetwork`; C classes and C * k sub-categories.
      sub_weight: weight of the sub-categories' loss (5).
      maps: 'classes', as published, or 'subcategories', the merged maps of each class's sub-categories.
    """

    sub_weight: float
    maps: str = "classes"

    name = "classifier"
    terms = ("loss_parent", "loss_sub", "accuracy_parent", "accuracy_sub")

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array | None,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> Outcome:
        """Soft margin of the classes, plus `sub_weight` times that of the sub-categories.

        The batch also has `sub_labels` float32[B, C * k]: 1 for the sub-category of each class in the
        picture. keys=None switches dropout off.
        """
        scores = family_score(self.network, variables[self.name], batch["images"], keys=keys)
        parents, children = scores.parents.logits, scores.children.logits
        terms = {
            "loss_parent": Term(multi_label_soft_margin(parents, batch["labels"])),
            "loss_sub": Term(multi_label_soft_margin(children, batch["sub_labels"]), weight=self.sub_weight),
            "accuracy_parent": Term(label_accuracy(parents, batch["labels"]), weight=0),
            "accuracy_sub": Term(label_accuracy(children, batch["sub_labels"]), weight=0),
        }
        return Outcome(terms)

    def cam(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> Scores:
        """Maps after the ReLU, as psa's before they are resized: C of them, or C * k, class by class."""
        scores = family_score(self.network, variables[self.name], images, sizes)
        maps = scores.parents.maps if self.maps == "classes" else scores.children.maps
        return Scores(jax.nn.relu(maps), scores.parents.logits)

    def finish(self, total: jax.Array, sizes: jax.Array) -> jax.Array:
        """Each class by its own maximum; of sub-categories, by the maximum of all k together.

        The original divides before it merges, which is the same: a class's k maps have one divisor.
        """
        if self.maps == "subcategories":
            total = total.reshape(*total.shape[:3], -1, self._per_class).max(-1)
        return max_normalise(total, sizes)

    @property
    def _per_class(self) -> int:
        return self.network.num_children // self.network.num_classes


def label_accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """|predicted and true| / |predicted or true| labels of each image: [B, N] each -> [B].

    A label is predicted where its probability is above 0.5. SC-CAM's log calls this 'acc'; an image without
    either has 1.
    """
    predicted, true = logits > 0, labels > 0
    either = (predicted | true).sum(1)
    return jnp.where(either > 0, (predicted & true).sum(1) / jnp.maximum(either, 1), 1.0)
