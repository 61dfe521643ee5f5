"""`wave_cam`: WaveCAM, its second training and its maps.

R. Xu et al.: "Wave-like Class Activation Map with Representation Fusion for Weakly Supervised Semantic
Segmentation", IEEE Transactions on Multimedia 2023 (WaveCAM), multi-stage.

Beside the classifier a predictor must tell each present class by the mean of the features where its map is
strong, to which the waves of all maps are added. The maps come from the product of both classifiers' weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from wsss_jax.method import Method
from wsss_jax.models.classifier import Scores
from wsss_jax.ops.losses import multi_label_soft_margin
from wsss_jax.systems.resnet50.groups import resnet50_group
from wsss_jax.systems.resnet50.maps import IrnMaps
from wsss_jax.systems.wave_cam.network import (
    Predictor,
    WaveClassifier,
    class_features,
    normalised_cams,
    score_waves,
)
from wsss_jax.task import FROZEN, STATE, Outcome, Path, Progress, Term, Variables

NETWORK, PREDICTOR = "wavecam_net", "wavecam_predictor"
_NO_ROWS = 1e-12  # keeps the accuracy of a batch without any class from being 0 / 0


@dataclass(frozen=True, kw_only=True)
class WaveCam(IrnMaps, Method):
    """Trains classifier and predictor together.

    Attributes:
      network: the classifier.
      predictor: see `Predictor`.
      frozen: modules of the trunk that keep their pretrained weights.
      ce_weight: of the predictor's cross-entropy (VOC 1, COCO 0.1).
      maps: 'product' of both classifiers' weights, or 'plain', the network's own classifier alone.
    """

    network: WaveClassifier
    predictor: Predictor
    frozen: tuple[str, ...]
    ce_weight: float = 1.0
    maps: str = "product"

    name = "wave_cam"
    terms = ("loss_cls", "loss_ce", "accuracy_ce")
    fresh = (PREDICTOR,)

    @property
    def networks(self) -> Mapping[str, Any]:
        """Both learn."""
        return {NETWORK: self.network, PREDICTOR: self.predictor}

    def group(self, path: Path) -> str:
        """The predictor is new; `bg` and `fc_c` have no part in the loss, and so never change."""
        if path[0] == NETWORK:
            return FROZEN if path[2] == "bg" else resnet50_group(path, self.frozen, new_layers=())
        if "fc_c" in path or ("wave" in path and not self.predictor.wave):
            return FROZEN
        return "new" if path[1] == "params" else STATE

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array | None,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> Outcome:
        """Soft margin, plus `ce_weight` times the predictor's cross-entropy: of each image the mean over its
        classes, and of the batch the mean over all images, of which those without a class have 0."""
        scores = score_waves(self.network, variables[NETWORK], batch["images"])
        cams = normalised_cams(scores.maps)
        features = class_features(cams, scores.features)
        told, state = self.predictor.apply(variables[PREDICTOR], features, cams, mutable=["batch_stats"])
        terms = predictor_terms(told, batch["labels"], self.ce_weight)
        loss = Term(multi_label_soft_margin(scores.logits, batch["labels"]))
        return Outcome({"loss_cls": loss, **terms}, {PREDICTOR: state} if self.predictor.wave else {})

    def cam(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> Scores:
        """Maps after ReLU; the waves have no part in them. Logits are the network's own."""
        scores = score_waves(self.network, variables[NETWORK], images, sizes)
        if self.maps == "plain":
            return Scores(jax.nn.relu(scores.maps), scores.logits)
        kernels = [variables[name]["params"]["classifier"]["kernel"] for name in self.networks]
        maps = jnp.einsum("bhwd,dc->bhwc", scores.features, (kernels[0] * kernels[1])[0, 0])
        return Scores(jax.nn.relu(maps), scores.logits)


def predictor_terms(told: jax.Array, labels: jax.Array, ce_weight: float) -> dict[str, Term]:
    """Cross-entropy and accuracy of logits float32[B, C, C], of which row k should say class k where
    labels [B, C] have it."""
    present, classes = labels > 0, jnp.arange(labels.shape[1])
    right_one = jnp.diagonal(jax.nn.log_softmax(told), axis1=1, axis2=2)
    count = present.sum(1)
    entropy = jnp.where(present, -right_one, 0).sum(1) / jnp.maximum(count, 1)
    right = (present & (told.argmax(-1) == classes)).sum(1)
    return {
        "loss_ce": Term(entropy, weight=ce_weight),
        "accuracy_ce": Term(right.astype(jnp.float32), count + _NO_ROWS, weight=0),
    }
