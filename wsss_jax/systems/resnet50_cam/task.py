"""`resnet50_cam`: the ordinary classifier on ResNet-50 and its class activation maps.

J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations",
CVPR 2019 (IRN), the first step of its code, which ReCAM's and WaveCAM's codes took over.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import jax

from wsss_jax.method import Method
from wsss_jax.models.classifier import Scores
from wsss_jax.ops.losses import multi_label_soft_margin
from wsss_jax.systems.resnet50.groups import resnet50_group
from wsss_jax.systems.resnet50.maps import IrnMaps
from wsss_jax.systems.resnet50.network import Classifier50
from wsss_jax.task import Outcome, Path, Progress, Term, Variables


@dataclass(frozen=True, kw_only=True)
class ResNet50Cam(IrnMaps, Method):
    """Trains a multi-label classifier; its CAM is ReLU(layer4 x classifier).

    Attributes:
      network: the network that learns.
      frozen: modules of the trunk that keep their pretrained weights.
    """

    network: Classifier50
    frozen: tuple[str, ...]

    name = "classifier"
    terms = ("loss_cls",)

    @property
    def networks(self) -> Mapping[str, Classifier50]:
        """One network."""
        return {self.name: self.network}

    def group(self, path: Path) -> str:
        """The head is new, the trunk pretrained."""
        return resnet50_group(path, self.frozen, new_layers=self.network.heads)

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array | None,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> Outcome:
        """Multi-label soft margin loss."""
        scores = self._score(variables, batch["images"])
        return Outcome({"loss_cls": Term(multi_label_soft_margin(scores.logits, batch["labels"]))})

    def cam(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> Scores:
        """Maps after the ReLU, before they are resized."""
        scores = self._score(variables, images, sizes)
        return Scores(jax.nn.relu(scores.maps), scores.logits)

    def _score(self, variables: Variables, images: jax.Array, sizes: jax.Array | None = None) -> Scores:
        return cast(Scores, self.network.apply(variables[self.name], images, sizes))
