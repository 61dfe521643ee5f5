"""`cse`: online class-specific erasing.

H. Kweon et al.: "Unlocking the Potential of Ordinary Classifier: Class-specific Adversarial Erasing
Framework for Weakly Supervised Semantic Segmentation", ICCV 2021 (OC-CSE).

The network `er` learns to find *all* of a class's pixels: its map of one present class erases them from the
image, and a frozen ordinary classifier `cl` must then no longer see that class, but still the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from wsss_jax.method import Method
from wsss_jax.models.classifier import Classifier, Scores, score
from wsss_jax.ops.losses import multi_label_soft_margin
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.systems.resnet38.groups import resnet38_group
from wsss_jax.task import FROZEN, Outcome, Path, Progress, Term, Variables


class Erasure(NamedTuple):
    """One class of each image and where `er` sees it."""

    scores: Scores  # of er on the whole image
    picked: jax.Array  # float32[B, C], one-hot
    activation: jax.Array  # [B, H, W, 1], the picked class's map at image size, >= 0


@dataclass(frozen=True, kw_only=True)
class Cse(Method):
    """Trains `er` against the frozen classifier `cl`; both have `cam`'s state dict.

    Attributes:
      er: the network that learns, without the dropout before fc8.
      cl: the ordinary classifier. Gradients pass through it to `er`; its weights never change.
      frozen_blocks: blocks of er's trunk that keep their pretrained weights.
      erased_weight: weight of the erased image's loss in the first epoch (0.3).
      erased_weight_per_epoch: what each further epoch adds to it (0.05).
    """

    er: Classifier
    cl: Classifier
    frozen_blocks: tuple[str, ...]
    erased_weight: float
    erased_weight_per_epoch: float

    name = "er"
    terms = ("loss_all", "loss_erased")

    @property
    def networks(self) -> Mapping[str, Classifier]:
        """er learns, cl judges."""
        return {"er": self.er, "cl": self.cl}

    def group(self, path: Path) -> str:
        """fc8 counts as pretrained here: OC-CSE gives it the plain learning rate, unlike psa."""
        return FROZEN if path[0] == "cl" else resnet38_group(path, self.frozen_blocks, new_layers=())

    def batch_maximum(
        self, variables: Variables, batch: Mapping[str, jax.Array], keys: jax.Array
    ) -> jax.Array:
        """Largest activation of the picked classes in the batch."""
        return self._erasure(variables, batch, pick_class(batch["labels"], keys), keys).activation.max()

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array | None,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> Outcome:
        """Classification of the image by er, and of the image without one of its classes by cl."""
        assert keys is not None  # they pick the class too
        weight = self.erased_weight + self.erased_weight_per_epoch * progress.epoch
        return self.losses(variables, batch, pick_class(batch["labels"], keys), weight, keys, maximum)

    def losses(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        picked: jax.Array,
        weight: jax.Array | float,
        keys: jax.Array | None,
        maximum: jax.Array | None = None,
    ) -> Outcome:
        """The loss with the class to erase given, one-hot float32[B, C]; keys=None switches dropout off."""
        labels = batch["labels"]
        erasure = self._erasure(variables, batch, picked, keys)
        # The maximum is that of the batch, not of the image: one image's strong response weakens the masks
        # of the others. So do the authors, and the published networks were trained with it.
        maximum = erasure.activation.max() if maximum is None else maximum
        mask = erasure.activation / (maximum + 1e-5)
        after = score(self.cl, variables["cl"], batch["images"] * (1 - mask))
        loss_all = multi_label_soft_margin(erasure.scores.logits, labels)
        loss_erased = weight * multi_label_soft_margin(after.logits, labels * (1 - picked))
        return Outcome({"loss_all": Term(loss_all), "loss_erased": Term(loss_erased)})

    def _erasure(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        picked: jax.Array,
        keys: jax.Array | None,
    ) -> Erasure:
        scores = score(self.er, variables["er"], batch["images"], keys=keys)
        picked_map = jnp.einsum("bhwc,bc->bhw", scores.maps, picked, precision="highest")[..., None]
        H, W = batch["images"].shape[1:3]
        activation = jax.nn.relu(resize_bilinear(picked_map, (H, W)))
        return Erasure(scores, picked, activation)

    def cam(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> Scores:
        """er's maps without ReLU, which OC-CSE applies after resizing (psa before)."""
        return score(self.er, variables["er"], images, sizes)

    def activate(self, resized: jax.Array) -> jax.Array:
        """ReLU."""
        return jax.nn.relu(resized)


_PICK_SITE = 1000  # apart from the sites of dropout layers, which draw from the same keys


def pick_class(labels: jax.Array, keys: jax.Array) -> jax.Array:
    """Picks one present class per image, uniformly: labels float32[B, C] of 0/1 -> one-hot float32[B, C].

    An image without a class gets no class: zeros.
    """

    def pick(key: jax.Array, label: jax.Array) -> jax.Array:
        scores = jax.random.uniform(jax.random.fold_in(key, _PICK_SITE), label.shape)
        return jax.nn.one_hot(jnp.argmax(jnp.where(label > 0, scores, -1)), label.shape[0])

    return jax.vmap(pick)(keys, labels) * labels
